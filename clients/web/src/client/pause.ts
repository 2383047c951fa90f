// Waiting for a weak link: longer each time, with jitter, and no longer than until the browser is online again.
import { Code, Refusal } from "./refusal.js";

const FIRST_MS = 400;
const LONGEST_MS = 15_000;

export function backoffMs(attempt: number): number {
  return Math.min(LONGEST_MS, FIRST_MS * 2 ** attempt) * (0.5 + Math.random() / 2);
}

/** Wait, but go on at once when the link comes back or the page is looked at again. Throws when cancelled. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = new AbortController();
    const end = (settle: () => void) => {
      clearTimeout(timer);
      done.abort();
      settle();
    };
    const timer = setTimeout(() => end(resolve), ms);
    const options = { signal: done.signal };
    const cancel = () => end(() => reject(new Refusal(Code.CANCELLED, "UNKNOWN")));
    if (signal?.aborted) return cancel();
    signal?.addEventListener("abort", cancel, options);
    addEventListener("online", () => end(resolve), options);
    document.addEventListener("visibilitychange", () => document.hidden || end(resolve), options);
  });
}
