// A question of a quiz: as it is asked, and as it was answered with what backs the key.
import { QuestionKind, type AnswerKey, type Question, type QuestionResult } from "../../gen/bacmr/v1/quiz_pb.js";
import type { App } from "../app.js";
import { h, icon, type Child } from "../dom.js";
import { count, t } from "../i18n.js";
import { showPassage } from "../passage.js";
import { directionOf, line as drawn } from "../prose.js";

const TICK = "M5 12.5l4.5 4.5L19 7.5";
const CROSS = "M6 6l12 12M18 6L6 18";

/** A question on the page, and the answer that stands in it. */
export interface Sheet {
  element: HTMLElement;
  answer(): { questionId: string; chosenOptions: number[]; text: string };
}

export function drawQuestion(question: Question): Sheet {
  const several = question.kind === QuestionKind.MULTIPLE_CHOICE;
  const options = optionsOf(question);
  const inputs = options.map((_, at) =>
    h("input", { type: several ? "checkbox" : "radio", name: question.id, value: at }));
  const text = h("input", { dir: "auto", maxlength: 500, "aria-label": t("quiz.text"), autocomplete: "off" });
  const element = h("fieldset", { class: "card" },
    h("legend", { dir: directionOf(question.stem) },
      h("span", { class: "faint small" }, t("quiz.question", { n: question.number })),
      h("span", { class: "stem" }, ...drawn(question.stem))),
    several && h("p", { class: "hint" }, t("quiz.several")),
    ...options.map((option, at) => h("label", { class: "option", dir: directionOf(option) }, inputs[at]!, h("span", {}, ...drawn(option)))),
    !options.length && text,
  );
  return {
    element,
    answer: () => ({
      questionId: question.id,
      chosenOptions: inputs.flatMap((input, at) => (input.checked ? [at] : [])),
      text: text.value.trim(),
    }),
  };
}

export function drawResult(app: App, { question, correct, score, answer }: QuestionResult): Child {
  if (!question) return undefined;
  const verdict = correct ? "right" : score > 0 ? "partly" : "wrong";
  const options = optionsOf(question);
  const given = answer?.text || answer?.chosenOptions.map((at) => options[at] ?? "").join("\n") || t("quiz.blank");
  return h("article", { class: `card result ${verdict}` },
    h("p", { class: "verdict" }, icon(verdict === "wrong" ? CROSS : TICK), t(`quiz.${verdict}`),
      h("span", { class: "faint small" }, " · ", t("quiz.question", { n: question.number }))),
    h("p", { class: "stem", dir: directionOf(question.stem) }, ...drawn(question.stem)),
    !correct && line(t("quiz.yours"), given),
    ...drawKey(app, question),
  );
}

/** Draw what is right, why, and where it stands. */
export function drawKey(app: App, question: Question): Child[] {
  const { key } = question;
  if (!key) return [];
  return [
    line(t("quiz.key"), rightAnswer(question, key)),
    // The local model explains by quoting: no need to read the same words twice.
    !flat(key.explanation).includes(flat(key.evidence?.quote || "\0")) && key.explanation !== "" && h("p", { dir: directionOf(key.explanation) }, key.explanation),
    key.evidence && h("button", {
      class: "evidence", dir: directionOf(key.evidence.quote),
      onclick: () => void showPassage(app.client, {
        chunkId: key.evidence!.chunkId, title: key.evidence!.documentTitle, page: key.evidence!.page, quotes: [key.evidence!.quote],
      }),
    },
      h("span", { class: "quote" }, key.evidence.quote),
      h("span", { class: "small faint" }, h("bdi", {}, key.evidence.documentTitle), " · ",
        h("bdi", {}, t("page", { n: key.evidence.page }))),
    ),
  ];
}

function rightAnswer(question: Question, key: AnswerKey): string {
  const options = optionsOf(question);
  return key.correctOptions.length
    ? key.correctOptions.map((at) => options[at] ?? count(at)).join("\n")
    : key.acceptedTexts.join(" · ");
}

function optionsOf(question: Question): string[] {
  if (question.kind === QuestionKind.TRUE_FALSE && !question.options.length) return [t("quiz.true"), t("quiz.false")];
  return question.options;
}

/** Explanations and quotes may differ in spaces and in the sign that ends a sentence. */
function flat(text: string): string {
  return text.replace(/\s+/g, " ").replace(/[.\s]+$/, "");
}

function line(name: string, value: string): HTMLElement {
  return h("p", { class: "line" }, h("span", { class: "faint small" }, name), h("strong", { dir: "auto" }, value));
}
