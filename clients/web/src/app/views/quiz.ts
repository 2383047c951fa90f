// The page of quizzes: make one, answer it, see why.
import { followed } from "../../client/follow.js";
import { once, uuid } from "../../client/request_id.js";
import { Difficulty, QuizService, type Quiz, type StartAttemptResponse } from "../../gen/bacmr/v1/quiz_pb.js";
import type { App, View } from "../app.js";
import { announce, fill, h, type Child } from "../dom.js";
import { moment, named, t } from "../i18n.js";
import { alert, attempt } from "../notice.js";
import { drawQuestion, drawResult, type Sheet } from "./question.js";

const MAKING = "bacmr.quiz";
const COUNTS = [3, 5, 10];

/** A quiz being made, kept so that a reload goes on with it under the same id. */
interface Wanted {
  requestId: string;
  topic: string;
  questionCount: number;
  difficulty: Difficulty;
}

export const quizView: View = (app, left) => {
  const section = h("section", { class: "stack" });
  const kept = localStorage.getItem(MAKING);
  if (kept) void make(app, section, JSON.parse(kept) as Wanted, left);
  else start(app, section, left);
  return section;
};

function start(app: App, section: HTMLElement, left: AbortSignal): void {
  const topic = h("input", { id: "topic", required: true, maxlength: 500, dir: "auto", "aria-describedby": "topic-hint" });
  const size = h("select", { id: "size" }, ...COUNTS.map((n) => h("option", { value: n, selected: n === 5 }, String(n))));
  const level = h("select", { id: "level" }, ...[Difficulty.EASY, Difficulty.MEDIUM, Difficulty.HARD].map((value) =>
    h("option", { value, selected: value === Difficulty.MEDIUM }, named("quiz.difficulty", String(value), "quiz.difficulty.2"))));
  const submit = (event: Event) => {
    event.preventDefault();
    const wanted = {
      requestId: uuid(), topic: topic.value.trim(), questionCount: Number(size.value), difficulty: Number(level.value),
    };
    if (wanted.topic) void make(app, section, wanted, left);
  };
  const list = h("div", {});
  fill(section,
    h("h1", {}, t("quiz.title")),
    h("p", { class: "lead" }, t("quiz.lead")),
    h("form", { class: "card stack", onsubmit: submit },
      h("div", { class: "stack tight" }, h("label", { for: "topic" }, t("quiz.topic")), topic,
        h("p", { class: "hint", id: "topic-hint" }, t("quiz.topic.hint"))),
      h("div", { class: "pair" },
        h("div", { class: "stack tight" }, h("label", { for: "size" }, t("quiz.count")), size),
        h("div", { class: "stack tight" }, h("label", { for: "level" }, t("quiz.difficulty")), level)),
      h("button", { class: "main", type: "submit" }, t("quiz.make")),
    ),
    list,
  );
  void showList(app, section, list, left);
}

async function showList(app: App, section: HTMLElement, list: HTMLElement, left: AbortSignal): Promise<void> {
  const { quizzes } = await app.client.unary(QuizService.method.listQuizzes, { pageSize: 20 }, { signal: left })
    .catch(() => ({ quizzes: [] as Quiz[] }));
  const problem = h("div", {});
  fill(list, h("h2", {}, t("quiz.list")), problem, quizzes.length
    ? h("ul", { class: "rows card" }, ...quizzes.map((quiz) =>
        h("li", {}, h("button", {
          class: "row tall",
          onclick: (event) => void attempt(event.currentTarget as HTMLButtonElement, problem, () => begin(app, section, quiz.id, left)),
        },
          h("span", { dir: "auto" }, quiz.title),
          h("span", { class: "faint small" }, quiz.createdAt ? moment(new Date(Number(quiz.createdAt.seconds) * 1000)) : ""),
        ))))
    : h("p", { class: "faint" }, t("quiz.list.none")));
}

/** Have a quiz made, over a link that drops: the same id gives the same quiz and is paid once. */
async function make(app: App, section: HTMLElement, wanted: Wanted, left: AbortSignal): Promise<void> {
  localStorage.setItem(MAKING, JSON.stringify(wanted));
  const stage = h("p", { class: "stage", role: "status" });
  const say = (words: string) => fill(stage, h("span", { class: "dots", "aria-hidden": "true" }), words);
  const ready = h("ol", { class: "stems" });
  fill(section, h("h1", { dir: "auto" }, wanted.topic), stage, ready);
  say(t("stage.sending"));
  let quiz: Quiz | undefined;
  try {
    const open = (signal: AbortSignal) => app.client.stream(QuizService.method.generateQuiz, wanted, signal);
    const waiting = (down: boolean) => down && say(t("link.down"));
    const seen = new Set<string>();
    for await (const { event } of followed(open, () => quiz !== undefined, waiting, left)) {
      if (event.case === "progress") say(named("stage", event.value.stage, "stage.other"));
      else if (event.case === "degraded") ready.before(h("p", { class: "notice small" }, named("degraded", event.value.step, "degraded.other")));
      else if (event.case === "question" && !seen.has(event.value.id)) {
        seen.add(event.value.id);
        ready.append(h("li", { dir: "auto" }, event.value.stem));
        announce(t("quiz.ready", { n: seen.size }));
      } else if (event.case === "completed") {
        quiz = event.value.quiz;
        app.spend(Number(event.value.receipt?.balanceTokens ?? 0));
        if (!quiz) break;
      }
    }
    localStorage.removeItem(MAKING);
    if (quiz?.questions.length) await begin(app, section, quiz.id, left);
    else fill(section, h("p", { class: "notice" }, t("quiz.empty")), again(app, section, left));
  } catch (error) {
    if (left.aborted) return;
    localStorage.removeItem(MAKING);
    fill(section, h("h1", { dir: "auto" }, wanted.topic), alert(error), h("div", { class: "pair" },
      h("button", { onclick: () => void make(app, section, wanted, left) }, t("retry")), again(app, section, left)));
  }
}

async function begin(app: App, section: HTMLElement, quizId: string, left: AbortSignal): Promise<void> {
  const attempted = await once("attempt", quizId, (requestId) =>
    app.client.unary(QuizService.method.startAttempt, { quizId, requestId }, { signal: left }));
  take(app, section, attempted, left);
}

function take(app: App, section: HTMLElement, { attempt: tried, questions }: StartAttemptResponse, left: AbortSignal): void {
  if (!tried) return;
  const sheets: Sheet[] = questions.map(drawQuestion);
  const problem = h("div", {});
  const button = h("button", { class: "main", type: "submit" }, t("quiz.submit"));
  const submit = (event: Event) => {
    event.preventDefault();
    void attempt(button, problem, async () => {
      const answers = sheets.map((sheet) => sheet.answer());
      const graded = await once(`submit.${tried.id}`, answers, (requestId) =>
        app.client.unary(QuizService.method.submitAttempt, { attemptId: tried.id, answers, requestId }, { signal: left }));
      const score = t("quiz.score", { score: graded.attempt?.score ?? 0, max: graded.attempt?.maxScore ?? 0 });
      const heading = h("h1", { class: "score", tabindex: -1 }, score);
      fill(section, h("p", { class: "faint", dir: "auto" }, tried.quizTitle), heading,
        ...graded.results.map((result) => drawResult(app, result)), again(app, section, left));
      scrollTo({ top: 0 });
      heading.focus();
      announce(score);
    });
  };
  fill(section, h("h1", { dir: "auto" }, tried.quizTitle),
    h("form", { class: "stack", onsubmit: submit }, ...sheets.map((sheet) => sheet.element), problem, button));
  scrollTo({ top: 0 });
}

function again(app: App, section: HTMLElement, left: AbortSignal): Child {
  return h("p", {}, h("button", { onclick: () => start(app, section, left) }, t("quiz.again")));
}
