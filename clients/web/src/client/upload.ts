// A file into the store by ticket: browsers cannot stream to a server over gRPC-Web.
import { IngestionService, Visibility, type Document } from "../gen/bacmr/v1/ingestion_pb.js";
import type { Client } from "./client.js";
import { Code, Refusal } from "./refusal.js";
import { once } from "./request_id.js";

const COMPLETE_TIMEOUT_MS = 120_000;
const OWN_TICKETS = "/blobs/";
/** Browsers do not know the type of every file that the library reads. */
const TYPES: Record<string, string> = {
  pdf: "application/pdf",
  docx: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
  htm: "text/html",
  html: "text/html",
  xhtml: "text/html",
  md: "text/markdown",
  markdown: "text/markdown",
  txt: "text/plain",
};
export const ACCEPTED = Object.keys(TYPES).map((suffix) => `.${suffix}`).join(",");

export type Step = { at: "hashing" } | { at: "sending"; share: number } | { at: "checking" };

/** Upload a file; `told` hears each step, the share from 0 to 1. Needs a secure context, for its hash. */
export async function upload(
  client: Client,
  file: File,
  title: string,
  visibility: Visibility,
  told: (step: Step) => void,
  signal: AbortSignal,
): Promise<Document> {
  told({ at: "hashing" });
  const sha256 = hex(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
  const suffix = file.name.slice(file.name.lastIndexOf(".") + 1).toLowerCase();
  const announced = {
    filename: file.name,
    contentType: TYPES[suffix] ?? (file.type || "application/octet-stream"),
    sizeBytes: BigInt(file.size),
    sha256,
    title,
    visibility,
  };
  const { createUpload, completeUpload } = IngestionService.method;
  return once("upload", [sha256, title, visibility], async (requestId) => {
    const { ticket } = await client.unary(createUpload, { ...announced, requestId }, { signal });
    if (!ticket) throw new Refusal(Code.INTERNAL, "INTERNAL");
    await send(ticket.method, reachable(ticket.url), ticket.headers, file, (share) => told({ at: "sending", share }), signal);
    told({ at: "checking" });
    const { document } = await client.unary(completeUpload, { uploadId: ticket.uploadId },
      { signal, timeoutMs: COMPLETE_TIMEOUT_MS });
    if (!document) throw new Refusal(Code.INTERNAL, "INTERNAL");
    return document;
  });
}

/** The server's own tickets work on whatever address this page was reached by, as `localhost`. */
function reachable(address: string): string {
  const url = new URL(address, location.href);
  return url.pathname.startsWith(OWN_TICKETS) ? url.pathname + url.search : address;
}

/** `fetch` cannot tell how much was sent. */
function send(
  method: string,
  url: string,
  headers: Readonly<Record<string, string>>,
  file: File,
  told: (share: number) => void,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => told(total ? loaded / total : 0);
    request.onload = () => (request.status < 300 ? resolve() : reject(refused(request)));
    request.onerror = () => reject(Refusal.linkDown());
    request.onabort = () => reject(new Refusal(Code.CANCELLED, "UNKNOWN"));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

function refused({ status, responseText }: XMLHttpRequest): Refusal {
  if (status >= 502) return Refusal.linkDown();
  try {
    const { reason, message, request_id: requestId } = JSON.parse(responseText) as Record<string, string>;
    return new Refusal(Code.UNKNOWN, reason as Refusal["reason"], message, {}, requestId);
  } catch {
    return new Refusal(Code.UNKNOWN, "UPLOAD_REFUSED", `HTTP ${status}`);
  }
}

function hex(bytes: ArrayBuffer): string {
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
