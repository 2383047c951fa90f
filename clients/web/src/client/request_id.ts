// One id per thing a person does: kept until its outcome is known, so that doing it again never pays twice.
import { Refusal } from "./refusal.js";

const KEY = "bacmr.action.";

/** Make a UUID, also on plain http, where browsers offer no `crypto.randomUUID`. */
export function uuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/**
 * Run an action under an id. The same action with the same payload gets the same id again, over reloads too, for as
 * long as it is not known whether the first try took effect.
 */
export async function once<T>(action: string, payload: unknown, run: (requestId: string) => Promise<T>): Promise<T> {
  const key = KEY + action;
  const wanted = JSON.stringify(payload);
  const [kept, keptId] = JSON.parse(localStorage.getItem(key) ?? "[]") as string[];
  const id = kept === wanted && keptId ? keptId : uuid();
  localStorage.setItem(key, JSON.stringify([wanted, id]));
  try {
    const result = await run(id);
    localStorage.removeItem(key);
    return result;
  } catch (error) {
    if (error instanceof Refusal && !error.transient) localStorage.removeItem(key);
    throw error;
  }
}
