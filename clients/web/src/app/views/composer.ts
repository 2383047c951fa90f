// Where a question is written: its price before it is sent, and the button that stops an answer.
import type { Refusal } from "../../client/refusal.js";
import { Language } from "../../gen/bacmr/v1/language_pb.js";
import { RetrievalService } from "../../gen/bacmr/v1/retrieval_pb.js";
import type { App } from "../app.js";
import { fill, h, icon } from "../dom.js";
import { t } from "../i18n.js";

const TYPING_PAUSE_MS = 700;
const SHORTEST = 6;
const LONGEST = 4000;
const ARROW = "M12 19V5M6 11l6-6l6 6";
const SQUARE = "M7 7h10v10H7z";
const DRAFT = "bacmr.draft";

export interface Composer {
  element: HTMLElement;
  /** Follow whether an answer runs. */
  update(): void;
  propose(question: string): void;
  focus(): void;
}

export function composer(app: App, left: AbortSignal): Composer {
  const { conversation } = app;
  const price = h("p", { class: "price small", id: "price" });
  const text = h("textarea", {
    id: "question", rows: 1, maxlength: LONGEST, dir: "auto", enterkeyhint: "send",
    "aria-label": t("ask.field"), "aria-describedby": "price", placeholder: t("ask.field"),
  });
  const language = h("select", { "aria-label": t("ask.in"), class: "small" },
    h("option", { value: Language.UNSPECIFIED }, t("ask.in.0")),
    h("option", { value: Language.FRENCH }, t("ask.in.1")),
    h("option", { value: Language.ARABIC }, t("ask.in.2")),
  );
  const send = h("button", { class: "round main", type: "submit" });
  let timer = 0;
  let estimate = new AbortController();

  const update = () => {
    const running = conversation.running;
    fill(send, icon(running ? SQUARE : ARROW));
    send.setAttribute("aria-label", t(running ? "ask.stop" : "ask.send"));
    send.disabled = running !== undefined && !running.answer.answerId && !running.linkDown;
  };
  const grow = () => {
    text.style.height = "auto";
    text.style.height = `${Math.min(text.scrollHeight, 160)}px`;
  };
  const quote = async () => {
    estimate.abort();
    estimate = new AbortController();
    const question = text.value.trim();
    fill(price);
    if (question.length < SHORTEST) return;
    try {
      const cost = await app.client.unary(RetrievalService.method.estimateAsk,
        { question, conversationId: conversation.id }, { signal: estimate.signal });
      const [min, likely, max] = [cost.minTokens, cost.likelyTokens, cost.maxTokens].map(Number);
      if (!cost.affordable) {
        fill(price, h("span", { class: "warn" }, t("ask.price.poor", { min: min ?? 0, balance: app.balance ?? 0 })), " ",
          h("a", { href: "#account" }, t("ask.topup")));
      } else if (cost.cheaperPlan) fill(price, h("span", { class: "warn" }, t("ask.price.cheaper", { max: max ?? 0 })));
      else fill(price, t("ask.price", { likely: likely ?? 0, max: max ?? 0 }));
    } catch (error) {
      // Without a price the question can be asked all the same: the charge is capped and told at the start.
      if ((error as Refusal).reason === "LINK_DOWN" && !navigator.onLine) fill(price, t("link.offline"));
    }
  };
  const changed = () => {
    grow();
    localStorage.setItem(DRAFT, text.value);
    clearTimeout(timer);
    timer = setTimeout(quote, TYPING_PAUSE_MS);
  };
  const propose = (question: string) => {
    text.value = question;
    changed();
    text.focus();
  };
  const submit = (event: Event) => {
    event.preventDefault();
    if (conversation.running) return void conversation.cancel().then((taken) => taken && propose(taken), () => undefined);
    const question = text.value.trim();
    if (!question) return text.focus();
    clearTimeout(timer);
    estimate.abort();
    text.value = "";
    localStorage.removeItem(DRAFT);
    fill(price);
    grow();
    conversation.ask(question, Number(language.value));
  };
  const form = h("form", { class: "composer", onsubmit: submit },
    h("div", { class: "field" }, text, send),
    h("div", { class: "under" }, language, price),
  );
  text.addEventListener("input", changed);
  text.addEventListener("keydown", (event) => {
    // With a keyboard Enter sends; on a phone it makes a new line and the button sends.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && matchMedia("(pointer: fine)").matches) {
      event.preventDefault();
      if (!conversation.running) form.requestSubmit();
    }
  });
  left.addEventListener("abort", () => {
    clearTimeout(timer);
    estimate.abort();
  });
  text.value = localStorage.getItem(DRAFT) ?? "";
  requestAnimationFrame(grow);
  update();
  return {
    element: form,
    update,
    focus: () => text.focus(),
    propose,
  };
}
