// Opens the page without a link: its few files are kept, calls are never touched.
/** Put in by build.mjs: the files of this build. Another build is another list, and so another cache. */
declare const FILES: readonly string[];

const worker = self as unknown as ServiceWorkerGlobalScope;
const CACHE = `bacmr ${FILES.join(" ")}`;
const PAGE = "./";
const PATIENCE_MS = 3_000;

worker.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll([PAGE, ...FILES])).then(() => worker.skipWaiting()));
});

worker.addEventListener("activate", (event) => {
  event.waitUntil(caches.keys()
    .then((names) => Promise.all(names.filter((name) => name !== CACHE).map((name) => caches.delete(name))))
    .then(() => worker.clients.claim()));
});

worker.addEventListener("fetch", (event) => {
  const { request } = event;
  const path = new URL(request.url).pathname.slice(1);
  if (request.mode === "navigate" && path === "") event.respondWith(freshPage(request));
  else if (request.method === "GET" && FILES.includes(path)) event.respondWith(kept(request));
});

/** The newest page, or the kept one where the link does not bring it soon. */
async function freshPage(request: Request): Promise<Response> {
  try {
    return await fetch(request, { signal: AbortSignal.timeout(PATIENCE_MS) });
  } catch {
    return (await caches.match(PAGE)) ?? Response.error();
  }
}

async function kept(request: Request): Promise<Response> {
  return (await caches.match(request)) ?? fetch(request);
}

export {};
