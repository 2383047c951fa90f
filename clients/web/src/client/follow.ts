// Reads a stream that may be opened again, until it is whole.
import { backoffMs, pause } from "./pause.js";
import { Refusal } from "./refusal.js";

/** The server says something at least every 15 s; a link that stays silent for longer is dead. */
const SILENCE_MS = 25_000;

/**
 * Yield events of one stream after another until `done`. Throws the first Refusal that waiting does not help, and where
 * `failed`, the one that follows the last event and says why.
 */
export async function* followed<T>(
  open: (signal: AbortSignal) => AsyncIterable<T>,
  done: () => boolean,
  waiting: (down: boolean) => void,
  signal: AbortSignal,
  failed: () => boolean = () => false,
): AsyncGenerator<T> {
  for (let attempt = 0; !done(); ) {
    const link = new AbortController();
    const hangUp = () => link.abort();
    signal.addEventListener("abort", hangUp);
    // A phone that changes networks keeps its dead connection open: hang up when the browser knows.
    addEventListener("offline", hangUp);
    let silence = setTimeout(hangUp, SILENCE_MS);
    try {
      for await (const event of open(link.signal)) {
        clearTimeout(silence);
        silence = setTimeout(hangUp, SILENCE_MS);
        attempt = 0;
        waiting(false);
        yield event;
        if (done() && !failed()) return;
      }
      if (done()) return;
      throw Refusal.linkDown();
    } catch (error) {
      if (signal.aborted || !(error instanceof Refusal && error.transient)) throw error;
      if (done()) {
        if (error.reason === "LINK_DOWN") return;
        throw error;
      }
      waiting(true);
      attempt += 1;
      await pause(error.retryAfterMs ?? backoffMs(attempt), signal);
    } finally {
      clearTimeout(silence);
      signal.removeEventListener("abort", hangUp);
      removeEventListener("offline", hangUp);
      hangUp();
    }
  }
}
