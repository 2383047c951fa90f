// What went wrong, in the reader's words.
import { Refusal } from "../client/refusal.js";
import { h } from "./dom.js";
import { count, named, t } from "./i18n.js";

/** Return a sentence for a failure. */
export function sentence(error: unknown): string {
  if (!(error instanceof Refusal)) return t("refused.other");
  const words = named("refused", error.reason, "refused.other");
  return words.replace(/\{(\w+)\}/g, (_, name: string) => count(Number(error.metadata[name] ?? 0)));
}

/** Return an alert for a failure, with the id to quote where only operators can help. */
export function alert(error: unknown): HTMLElement {
  const unexplained = error instanceof Refusal && sentence(error) === t("refused.other") && error.requestId;
  return h("div", { class: "notice bad", role: "alert" },
    h("p", {}, sentence(error)),
    unexplained ? h("p", { class: "small" }, t("refused.id", { id: error.requestId })) : undefined,
  );
}

/** Run what fills a view. A failure shows where `where` is, once, with a button to try again; not when it was left. */
export async function load(where: Element, left: AbortSignal, run: () => Promise<unknown>): Promise<void> {
  where.replaceChildren();
  try {
    await run();
  } catch (error) {
    if (left.aborted) return;
    where.replaceChildren(alert(error), h("p", {}, h("button", { onclick: () => void load(where, left, run) }, t("retry"))));
  }
}

/** Run what a button does: it cannot be pressed twice, and a failure shows where `where` is. */
export async function attempt(button: HTMLButtonElement, where: Element, run: () => Promise<void>): Promise<void> {
  button.disabled = true;
  where.replaceChildren();
  try {
    await run();
  } catch (error) {
    where.replaceChildren(alert(error));
  } finally {
    button.disabled = false;
  }
}
