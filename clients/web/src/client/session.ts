// One person's session, kept over reloads and shared by the tabs of a browser.
import type { Session } from "../gen/bacmr/v1/auth_pb.js";
import type { Role } from "../gen/bacmr/v1/access_pb.js";
import { Code, type Refusal } from "./refusal.js";

const KEY = "bacmr.session";
const REFRESH_BEFORE_MS = 60_000;

export interface Person {
  id: string;
  name: string;
  account: string;
  role: Role;
}

interface Kept {
  access: string;
  refresh: string;
  /** On this device's clock. */
  expiresAt: number;
  person: Person;
}

export class Sessions {
  /** `trade` calls RefreshSession; `ended` hears that the session is over. */
  constructor(
    private readonly trade: (refreshToken: string) => Promise<Session>,
    private readonly ended: () => void,
  ) {}

  get person(): Person | undefined {
    return read()?.person;
  }

  keep(session: Session): void {
    const { user } = session;
    const kept: Kept = {
      access: session.accessToken,
      refresh: session.refreshToken,
      expiresAt: Date.now() + lifetimeMs(session.accessToken),
      person: {
        id: user?.id ?? "",
        name: user?.displayName ?? "",
        account: user?.email || user?.phone || "",
        role: user?.role ?? 0,
      },
    };
    localStorage.setItem(KEY, JSON.stringify(kept));
  }

  forget(): void {
    localStorage.removeItem(KEY);
  }

  /** Return an access token that lasts a while; empty when nobody is signed in. */
  async token(): Promise<string> {
    const kept = read();
    if (!kept || kept.expiresAt - Date.now() > REFRESH_BEFORE_MS) return kept?.access ?? "";
    return this.renew(kept.access);
  }

  /**
   * Trade the refresh token, once for all tabs, unless another caller already replaced `stale`.
   * A link that is down leaves the session alone: only the server's word ends it.
   */
  async renew(stale: string): Promise<string> {
    return exclusively(async () => {
      const kept = read();
      if (!kept || kept.access !== stale) return kept?.access ?? "";
      try {
        this.keep(await this.trade(kept.refresh));
      } catch (error) {
        if ((error as Refusal).code === Code.UNAUTHENTICATED || (error as Refusal).reason === "ACCOUNT_DISABLED") {
          this.forget();
          this.ended();
        }
        throw error;
      }
      return read()?.access ?? "";
    });
  }
}

/** How long a token lasts by its own claims, because the clock of a cheap phone is often wrong. */
function lifetimeMs(token: string): number {
  const part = (token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/");
  const claims = JSON.parse(atob(part)) as { iat: number; exp: number };
  return (claims.exp - claims.iat) * 1000;
}

function read(): Kept | undefined {
  const text = localStorage.getItem(KEY);
  return text ? (JSON.parse(text) as Kept) : undefined;
}

let queue: Promise<unknown> = Promise.resolve();

function exclusively<T>(run: () => Promise<T>): Promise<T> {
  // Browsers offer locks between tabs on https and on localhost only; elsewhere this tab keeps its own order.
  if (navigator.locks) return navigator.locks.request(KEY, run) as Promise<T>;
  const result = queue.then(run, run);
  queue = result.catch(() => undefined);
  return result;
}
