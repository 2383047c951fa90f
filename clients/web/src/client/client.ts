// The typed client: adds the token, renews it, retries what is safe.
import type { DescMethodServerStreaming, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { AuthService } from "../gen/bacmr/v1/auth_pb.js";
import { call, type CallOptions } from "./grpcweb.js";
import { backoffMs, pause } from "./pause.js";
import { Code, Refusal } from "./refusal.js";
import { Sessions } from "./session.js";

const UNARY_TIMEOUT_MS = 30_000;
const TRIES = 3;

export class Client {
  readonly sessions: Sessions;

  /** `base` is the origin that answers gRPC-Web, empty for the page's own. `signedOut` hears that a session is over. */
  constructor(
    private readonly base: string,
    signedOut: () => void,
  ) {
    this.sessions = new Sessions(async (refreshToken) => {
      const reply = await this.once(AuthService.method.refreshSession, { refreshToken }, {});
      if (!reply.session) throw new Refusal(Code.INTERNAL, "INTERNAL");
      return reply.session;
    }, signedOut);
  }

  /**
   * Call a method that gives one message. Retried a few times when the link or the server is down: messages that
   * change something carry a `request_id`, so that this changes it once.
   */
  async unary<M extends DescMethodUnary>(
    method: M,
    request: MessageInitShape<M["input"]>,
    { signal, timeoutMs = UNARY_TIMEOUT_MS }: Omit<CallOptions, "token"> = {},
  ): Promise<MessageShape<M["output"]>> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.authorised((token) => this.once(method, request, { token, timeoutMs, signal }));
      } catch (error) {
        if (!(error instanceof Refusal && error.transient) || attempt >= TRIES || !navigator.onLine) throw error;
        await pause(error.retryAfterMs ?? backoffMs(attempt), signal);
      }
    }
  }

  /** Call a method that streams. Never retried here: who reads the stream knows where to go on. */
  async *stream<M extends DescMethodServerStreaming>(
    method: M,
    request: MessageInitShape<M["input"]>,
    signal?: AbortSignal,
  ): AsyncGenerator<MessageShape<M["output"]>> {
    let token = await this.sessions.token();
    for (let renewed = false; ; renewed = true) {
      try {
        return yield* call(this.base, method, request, { token, signal });
      } catch (error) {
        if (renewed || !isUnauthenticated(error)) throw error;
        token = await this.sessions.renew(token);
      }
    }
  }

  private async authorised<T>(run: (token: string) => Promise<T>): Promise<T> {
    const token = await this.sessions.token();
    try {
      return await run(token);
    } catch (error) {
      if (!token || !isUnauthenticated(error)) throw error;
      return run(await this.sessions.renew(token));
    }
  }

  private async once<M extends DescMethodUnary>(
    method: M,
    request: MessageInitShape<M["input"]>,
    options: CallOptions,
  ): Promise<MessageShape<M["output"]>> {
    for await (const message of call(this.base, method, request, options)) return message;
    throw new Refusal(Code.INTERNAL, "INTERNAL");
  }
}

function isUnauthenticated(error: unknown): boolean {
  return error instanceof Refusal && error.reason === "NOT_SIGNED_IN";
}
