// One question and its answer: how far it is, what it says, where that stands, what it cost.
import type { Answer, Outcome } from "../../client/answer.js";
import { Language } from "../../gen/bacmr/v1/language_pb.js";
import { AskFinishReason, Rating, RetrievalService } from "../../gen/bacmr/v1/retrieval_pb.js";
import type { App } from "../app.js";
import type { Turn } from "../conversation.js";
import { announce, h, hush, type Child } from "../dom.js";
import { named, t } from "../i18n.js";
import { alert } from "../notice.js";
import { showPassage } from "../passage.js";
import { directionOf, line, prose } from "../prose.js";
import { parts, tied, wordsOf } from "../text.js";

const SENTENCE = /[.!?؟。]\s|\n/g;
/** BCP 47; Hassaniya is ISO 639-3 `mey`. */
const TAGS: Partial<Record<Language, string>> = {
  [Language.FRENCH]: "fr",
  [Language.ARABIC]: "ar",
  [Language.HASSANIYA]: "mey",
};

/** How much of the running answer was already read out. */
const spoken = new WeakMap<Turn, { stage: string; chars: number }>();

export function drawTurn(app: App, turn: Turn): HTMLElement {
  const { answer, running } = turn;
  speak(turn);
  return h("article", { class: "turn", "aria-busy": running ? "true" : undefined },
    h("h3", { class: "hidden" }, t("ask.you")),
    h("p", { class: "question", dir: directionOf(wordsOf(parts(answer.question))), lang: TAGS[answer.language] }, ...line(answer.question)),
    h("h3", { class: "hidden" }, t("ask.answer")),
    h("div", { class: "answer", lang: TAGS[answer.answerLanguage || answer.language] },
      ...prose(answer.text, (number) => citation(app, answer, number))),
    running && (turn.linkDown
      ? h("p", { class: "notice" }, t(answer.answerId ? "link.down" : "link.waiting"))
      : progress(answer)),
    notices(turn),
    turn.refusal && alert(turn.refusal),
    turn.refusal && h("p", { class: "pair" },
      turn.refusal.reason !== "NO_PASSAGES" && h("button", { onclick: () => app.conversation.retry(turn) }, t("retry")),
      turn.refusal.reason === "INSUFFICIENT_BALANCE" && h("a", { class: "button", href: "#account" }, t("ask.topup"))),
    sources(answer),
    answer.outcome && foot(app, answer),
  );
}

function progress(answer: Answer): HTMLElement {
  const stage = answer.stage ? named("stage", answer.stage, "stage.other") : t("stage.sending");
  return h("p", { class: "stage" }, h("span", { class: "dots", "aria-hidden": "true" }), stage);
}

function notices({ answer, refusal }: Turn): Child {
  const found = answer.degraded.map((step) => named("degraded", step, "degraded.other"));
  const { outcome } = answer;
  if (outcome) {
    if (outcome.reason > AskFinishReason.STOP && !refusal) found.push(named("finish", String(outcome.reason), "finish.4"));
    if (outcome.unsupported.length) found.push(t("ask.unsupported", { n: outcome.unsupported.length }));
  }
  const once = Array.from(new Set(found));
  return once.length > 0 && h("ul", { class: "notice small" }, ...once.map((words) => h("li", {}, words)));
}

function citation(app: App, answer: Answer, number: number): HTMLElement {
  const quotes = answer.outcome?.quotes.filter((quote) => quote.number === number) ?? [];
  const source = answer.sources[number - 1];
  const first = quotes[0] ?? source;
  if (!first || (answer.outcome && !quotes.length)) {
    return h("span", { class: "cite gone", title: t("ask.unchecked", { n: number }) }, String(number));
  }
  const known = answer.sources.find((found) => found.chunkId === first.chunkId);
  return h("button", {
    class: "cite",
    "aria-label": t("ask.citation", { n: number }),
    onclick: () => void showPassage(app.client, {
      chunkId: first.chunkId, title: first.title, page: first.page, text: known?.text,
      quotes: quotes.map((quote) => quote.quote),
    }),
  }, String(number));
}

/** All that an answer rests on, until its own citations are checked. */
function sources(answer: Answer): Child {
  const { outcome } = answer;
  if (outcome?.quotes.length || !answer.sources.length) return undefined;
  return h("details", { class: "sources" },
    h("summary", {}, t("ask.read", { n: answer.sources.length })),
    h("ol", {}, ...answer.sources.map((source) =>
      h("li", {},
        h("p", { class: "small" }, h("bdi", {}, source.title), " · ", t("page", { n: source.page })),
        h("blockquote", { dir: directionOf(source.text), lang: TAGS[source.language] }, source.text),
      ))),
  );
}

function foot(app: App, answer: Answer): HTMLElement {
  const outcome = answer.outcome!;
  const quotes = outcome.quotes.filter((quote, at, all) => all.findIndex((other) => other.number === quote.number) === at);
  return h("footer", {},
    quotes.length > 0 && h("details", { class: "sources" },
      h("summary", {}, t("ask.sources", { n: quotes.length })),
      h("ul", { class: "quotes" }, ...quotes.map((quote) =>
        h("li", {},
          citation(app, answer, quote.number),
          h("div", {},
            h("p", { class: "small" }, h("bdi", {}, quote.title), " · ", h("bdi", {}, t("page", { n: quote.page }))),
            h("p", { class: "quote", dir: directionOf(quote.quote) }, tied(quote.quote)),
          ),
        )))),
    h("p", { class: "receipt small faint" },
      receipt(outcome),
      answer.text && rating(app, answer)),
  );
}

function receipt({ chargedTokens: charged, balanceTokens: balance }: Outcome): string {
  return charged ? t("ask.cost", { charged, balance }) : t("ask.free");
}

function rating(app: App, answer: Answer): HTMLElement {
  const where = h("span", { class: "rating" });
  const rate = (rating: Rating) => () => {
    app.client.unary(RetrievalService.method.rateAnswer, { answerId: answer.answerId, rating })
      .then(() => where.replaceChildren(t("ask.thanks")), (error: unknown) => where.replaceChildren(alert(error)));
  };
  where.append(
    h("button", { class: "plain small", onclick: rate(Rating.HELPFUL) }, t("ask.helpful")),
    h("button", { class: "plain small", onclick: rate(Rating.UNHELPFUL) }, t("ask.unhelpful")),
  );
  return where;
}

/** Read out each step and each whole sentence once; the drawn answer itself is no live region. */
function speak(turn: Turn): void {
  const { answer, running } = turn;
  const said = spoken.get(turn);
  if (!running && !said) return;
  const last = said ?? { stage: "", chars: 0 };
  if (answer.stage !== last.stage) announce(named("stage", answer.stage, "stage.other"));
  const ends = Array.from(answer.text.matchAll(SENTENCE), (match) => match.index + 1);
  const upTo = running ? Math.max(last.chars, ends[ends.length - 1] ?? 0) : answer.text.length;
  if (upTo > last.chars) announce(answer.text.slice(last.chars, upTo).trim());
  if (running) spoken.set(turn, { stage: answer.stage, chars: upTo });
  else {
    spoken.delete(turn);
    if (answer.outcome) announce(receipt(answer.outcome));
    setTimeout(hush, 10_000);
  }
}
