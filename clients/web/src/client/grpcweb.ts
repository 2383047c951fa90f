// gRPC-Web (binary framing) over fetch: unary and server-streaming calls, one message each way per frame.
// Ours and not @connectrpc/connect-web's, because JSON and reflection double the weight of the page.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DescMethod, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { Code, Refusal } from "./refusal.js";

const PREFIX_BYTES = 5;
const TRAILERS = 0x80;

export interface CallOptions {
  /** Sent as `authorization: Bearer …`. */
  token?: string | undefined;
  /** The server's deadline; the browser waits no longer than it either. */
  timeoutMs?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** Yield the messages of one call. Throws a Refusal for every way to fail, cancellation included. */
export async function* call<M extends DescMethod>(
  base: string,
  method: M,
  request: MessageInitShape<M["input"]>,
  { token, timeoutMs, signal }: CallOptions,
): AsyncGenerator<MessageShape<M["output"]>> {
  const headers: Record<string, string> = { "content-type": "application/grpc-web+proto", "x-grpc-web": "1" };
  if (token) headers["authorization"] = `Bearer ${token}`;
  if (timeoutMs) headers["grpc-timeout"] = `${Math.ceil(timeoutMs)}m`;
  const stop = new AbortController();
  const cancel = () => stop.abort();
  signal?.addEventListener("abort", cancel);
  const timer = timeoutMs ? setTimeout(cancel, timeoutMs + 2_000) : 0;
  try {
    if (signal?.aborted) cancel();
    const response = await fetch(`${base}/${method.parent.typeName}/${method.name}`, {
      method: "POST",
      headers,
      body: framed(toBinary(method.input, create(method.input, request))),
      signal: stop.signal,
      cache: "no-store",
    });
    if (!response.ok || !response.body) {
      throw new Refusal(response.status >= 502 ? Code.UNAVAILABLE : Code.UNKNOWN, "UNKNOWN", `HTTP ${response.status}`);
    }
    ended(response.headers.get("grpc-status"), (name) => response.headers.get(name));
    yield* messages(method, response.body);
  } catch (error) {
    if (error instanceof Refusal) throw error;
    if (signal?.aborted) throw new Refusal(Code.CANCELLED, "UNKNOWN");
    throw Refusal.linkDown();
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", cancel);
    cancel();
  }
}

async function* messages<M extends DescMethod>(
  method: M,
  body: ReadableStream<Uint8Array>,
): AsyncGenerator<MessageShape<M["output"]>> {
  for await (const { flag, payload } of frames(body)) {
    if (flag & TRAILERS) {
      const lines = trailers(payload);
      ended(lines.get("grpc-status") ?? null, (name) => lines.get(name) ?? null);
      return;
    }
    yield fromBinary(method.output, payload) as MessageShape<M["output"]>;
  }
  throw Refusal.linkDown();
}

async function* frames(body: ReadableStream<Uint8Array>): AsyncGenerator<{ flag: number; payload: Uint8Array }> {
  const reader = body.getReader();
  let waiting = new Uint8Array(0);
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    waiting = joined(waiting, part.value);
    while (waiting.length >= PREFIX_BYTES) {
      const size = new DataView(waiting.buffer, waiting.byteOffset).getUint32(1);
      if (waiting.length < PREFIX_BYTES + size) break;
      yield { flag: waiting[0] ?? 0, payload: waiting.subarray(PREFIX_BYTES, PREFIX_BYTES + size) };
      waiting = waiting.subarray(PREFIX_BYTES + size);
    }
  }
}

function ended(status: string | null, trailer: (name: string) => string | null): void {
  const code = Number(status ?? 0);
  if (code !== 0) throw Refusal.from(code, trailer);
}

function trailers(payload: Uint8Array): Map<string, string> {
  const lines = new TextDecoder("latin1").decode(payload).split("\r\n");
  return new Map(
    lines.filter(Boolean).map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
}

function framed(message: Uint8Array): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(PREFIX_BYTES + message.length);
  new DataView(frame.buffer).setUint32(1, message.length);
  frame.set(message, PREFIX_BYTES);
  return frame;
}

function joined(head: Uint8Array, tail: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(head.length + tail.length);
  both.set(head);
  both.set(tail, head.length);
  return both;
}
