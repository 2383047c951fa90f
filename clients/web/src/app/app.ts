// What every view shares: the client, who is signed in, the balance, and where to go.
import type { Client } from "../client/client.js";
import type { Session } from "../gen/bacmr/v1/auth_pb.js";
import type { Conversation } from "./conversation.js";

export interface App {
  readonly client: Client;
  readonly conversation: Conversation;
  /** Tokens that can be spent, once known. */
  readonly balance: number | undefined;
  /** Ask for the balance again, or take the one that a receipt told. */
  spend(balance?: number): void;
  signIn(session: Session): void;
  signOut(): void;
}

/** A view draws itself; it is told by the signal when it is left. */
export type View = (app: App, left: AbortSignal) => HTMLElement;

const PREFIX = "bacmr.";
const TONGUE = "bacmr.tongue";
const OWNER = "bacmr.owner";

/** Forget everything but the language: the next person may share the phone. */
export function forgetEverything(): void {
  for (const key of Object.keys(localStorage)) {
    if (key.startsWith(PREFIX) && key !== TONGUE) localStorage.removeItem(key);
  }
}

/** Say whose things are kept here, forgetting those of anybody else, whose session may have ended unasked. */
export function belongTo(id: string): void {
  if (localStorage.getItem(OWNER) !== id) forgetEverything();
  localStorage.setItem(OWNER, id);
}
