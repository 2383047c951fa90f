// The page of questions: the conversation, and below it the field to ask in.
import { RetrievalService, type Conversation as Found } from "../../gen/bacmr/v1/retrieval_pb.js";
import type { App, View } from "../app.js";
import { announce, fill, h, icon } from "../dom.js";
import { count, moment, t, type Key } from "../i18n.js";
import { alert, attempt } from "../notice.js";
import { directionOf, line } from "../prose.js";
import { parts, tied, wordsOf } from "../text.js";
import { composer } from "./composer.js";
import { drawTurn } from "./turn.js";
import type { Turn } from "../conversation.js";

const EXAMPLES: readonly Key[] = ["ask.example.1", "ask.example.2", "ask.example.3"];
const PLUS = "M12 5v14M5 12h14";
const CROSS = "M6 6l12 12M18 6L6 18";
const CLOCK = "M12 7v5l3 2M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18";

export const askView: View = (app, left) => {
  const { conversation } = app;
  const turns = h("div", { class: "turns" });
  const field = composer(app, left);
  const drawn = new Map<Turn, HTMLElement>();
  let waiting = 0;

  const draw = () => {
    waiting = 0;
    if (!conversation.turns.length) drawn.clear();
    fill(turns, conversation.turns.length ? conversation.turns.map((turn) => drawn.get(turn) ?? put(turn)) : welcome());
  };
  const put = (turn: Turn): HTMLElement => {
    const element = drawTurn(app, turn);
    drawn.set(turn, element);
    return element;
  };
  const changed = (turn?: Turn) => {
    if (turn) {
      const before = drawn.get(turn);
      before?.replaceWith(put(turn));
    } else {
      drawn.clear();
      draw();
      // The question goes to the top once, and the answer grows below it: nothing moves under the reader's eyes.
      if (conversation.turns.length) turns.lastElementChild?.scrollIntoView({ block: "start" });
    }
    field.update();
  };
  const welcome = () =>
    h("section", { class: "welcome" },
      h("h2", {}, t("ask.title")),
      h("p", { class: "lead" }, t("ask.lead")),
      h("div", { class: "examples" }, ...EXAMPLES.map((key) =>
        h("button", { class: "example", dir: "auto", onclick: () => field.propose(t(key)) }, tied(t(key))))),
    );

  // Words come faster than a cheap phone draws: one drawing per frame.
  const pending = new Set<Turn | undefined>();
  conversation.changed = (turn) => {
    pending.add(turn);
    waiting ||= requestAnimationFrame(() => {
      waiting = 0;
      const all = pending.has(undefined) ? [undefined] : Array.from(pending);
      pending.clear();
      all.forEach(changed);
    });
  };
  left.addEventListener("abort", () => {
    conversation.changed = () => undefined;
    cancelAnimationFrame(waiting);
  });
  draw();
  if (conversation.turns.length > 1) requestAnimationFrame(() => turns.lastElementChild?.scrollIntoView({ block: "start" }));
  const history = h("div", {});
  return h("div", { class: "ask" },
    h("h1", { class: "hidden" }, t("nav.ask")),
    h("div", { class: "tools" },
      h("button", { class: "plain", onclick: () => { conversation.clear(); field.focus(); } },
        icon(PLUS), t("ask.new")),
      h("button", { class: "plain", onclick: (event) => void showHistory(app, event.currentTarget as HTMLButtonElement, history) },
        icon(CLOCK), t("ask.history")),
    ),
    history,
    turns,
    field.element,
  );
};

async function showHistory(app: App, button: HTMLButtonElement, where: HTMLElement): Promise<void> {
  if (where.childElementCount) return void where.replaceChildren();
  await attempt(button, where, async () => {
    const { conversations } = await app.client.unary(RetrievalService.method.listConversations, { pageSize: 30 });
    fill(where, conversations.length
      ? h("ul", { class: "rows card" }, ...conversations.map((found) => conversationRow(app, found, where)))
      : h("p", { class: "card faint" }, t("ask.history.none")));
    announce(t("ask.history"));
  });
}

function conversationRow(app: App, { id, title, updatedAt, answerCount }: Found, where: HTMLElement): HTMLElement {
  const open = () => {
    app.conversation.clear();
    app.conversation.open(id).then(() => where.replaceChildren(), (error: unknown) => fill(where, alert(error)));
  };
  const remove = (event: Event) => void attempt(event.currentTarget as HTMLButtonElement, problem, async () => {
    await app.client.unary(RetrievalService.method.deleteConversation, { conversationId: id });
    if (app.conversation.id === id) app.conversation.clear();
    row.remove();
  });
  const problem = h("div", {});
  const row = h("li", { class: "row" },
    h("button", { class: "row tall", onclick: open },
      h("span", { dir: directionOf(wordsOf(parts(title))) }, ...line(title)),
      h("span", { class: "faint small" },
        updatedAt ? moment(new Date(Number(updatedAt.seconds) * 1000)) : "", " · ", count(answerCount))),
    h("button", { class: "plain round", "aria-label": t("ask.history.delete"), onclick: remove }, icon(CROSS)),
    problem);
  return row;
}
