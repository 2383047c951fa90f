// Why a call failed, read from the details that every BacMR error carries.
import { fromBinary } from "@bufbuild/protobuf";
import type { ErrorReason } from "../gen/bacmr/v1/errors_pb.js";
import { ErrorInfoSchema, RequestInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../gen/google/rpc/status_pb.js";

/** gRPC status codes that this client tells apart. */
export enum Code {
  CANCELLED = 1,
  UNKNOWN = 2,
  DEADLINE_EXCEEDED = 4,
  ABORTED = 10,
  INTERNAL = 13,
  UNAVAILABLE = 14,
  UNAUTHENTICATED = 16,
}

const TRANSIENT: ReadonlySet<number> = new Set([
  Code.CANCELLED,
  Code.DEADLINE_EXCEEDED,
  Code.ABORTED,
  Code.UNAVAILABLE,
]);

/** The names of the contract's reasons, and `LINK_DOWN` for a call that met no server. */
export type Reason = Exclude<keyof typeof ErrorReason, "UNSPECIFIED"> | "LINK_DOWN" | "UNKNOWN";

/** A failed call: its status, BacMR's reason, when to retry, and the id to quote to operators. */
export class Refusal extends Error {
  constructor(
    readonly code: number,
    readonly reason: Reason,
    message: string = reason,
    readonly metadata: Readonly<Record<string, string>> = {},
    readonly requestId = "",
    readonly retryAfterMs: number | undefined = undefined,
  ) {
    super(message);
  }

  /**
   * True when the same call may succeed later; its `request_id` keeps it from taking effect twice. A call that nobody
   * here cancelled ends as CANCELLED when it reaches a server that stops.
   */
  get transient(): boolean {
    return TRANSIENT.has(this.code);
  }

  /** The call met no server, or its answer broke off: whether it took effect is not known. */
  static linkDown(): Refusal {
    return new Refusal(Code.UNAVAILABLE, "LINK_DOWN");
  }

  /** Read a failure from what ended the call: the trailers, or the headers when there was nothing else. */
  static from(code: number, trailers: (name: string) => string | null): Refusal {
    const message = decoded(trailers("grpc-message") ?? "");
    const details = trailers("grpc-status-details-bin");
    let reason: Reason = "UNKNOWN";
    let metadata: Readonly<Record<string, string>> = {};
    let requestId = trailers("x-request-id") ?? "";
    let retryAfterMs: number | undefined;
    for (const detail of details ? fromBinary(StatusSchema, base64(details)).details : []) {
      const name = detail.typeUrl.slice(detail.typeUrl.lastIndexOf("/") + 1);
      if (name === ErrorInfoSchema.typeName) {
        const info = fromBinary(ErrorInfoSchema, detail.value);
        reason = info.reason as Reason;
        metadata = info.metadata;
      } else if (name === RequestInfoSchema.typeName) {
        requestId = fromBinary(RequestInfoSchema, detail.value).requestId;
      } else if (name === RetryInfoSchema.typeName) {
        const delay = fromBinary(RetryInfoSchema, detail.value).retryDelay;
        retryAfterMs = delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6;
      }
    }
    return new Refusal(code, reason, message, metadata, requestId, retryAfterMs);
  }
}

function decoded(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}

function base64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}
