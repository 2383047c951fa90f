// Questions that come back before they are forgotten, and where the student stands.
import { once } from "../../client/request_id.js";
import { QuizService, Recall, type Review } from "../../gen/bacmr/v1/quiz_pb.js";
import type { App, View } from "../app.js";
import { fill, h, type Child } from "../dom.js";
import { named, t } from "../i18n.js";
import { attempt, load } from "../notice.js";
import { directionOf, line } from "../prose.js";
import { drawKey } from "./question.js";

const GRADES = [Recall.AGAIN, Recall.HARD, Recall.GOOD, Recall.EASY];

export const reviewView: View = (app, left) => {
  const card = h("div", {});
  const progress = h("div", {});
  void load(card, left, async () => {
    fill(card, h("p", { class: "faint" }, t("loading")));
    const { reviews } = await app.client.unary(QuizService.method.listDueReviews, { pageSize: 50 }, { signal: left });
    show(app, card, reviews);
  });
  app.client.unary(QuizService.method.getProgress, {}, { signal: left })
    .then(({ topics }) => fill(progress, topics.length > 0 && [
      h("h2", {}, t("progress.title")),
      h("ul", { class: "rows card" }, ...topics.map((topic) =>
        h("li", { class: "row" },
          h("span", { dir: "auto" }, topic.topic || topic.subject),
          h("meter", { min: 0, max: 1, low: 0.4, high: 0.7, optimum: 1, value: topic.mastery, "aria-label": topic.topic }),
          h("span", { class: "faint small" }, t("progress.topic", { correct: topic.correct, answered: topic.answered }))))),
    ]), () => undefined);
  return h("section", { class: "stack" },
    h("h1", {}, t("review.title")), h("p", { class: "lead" }, t("review.lead")), card, progress);
};

function show(app: App, where: HTMLElement, [review, ...rest]: readonly Review[]): void {
  const { question } = review ?? {};
  if (!question) return void fill(where, h("p", { class: "card faint" }, t("review.none")));
  const problem = h("div", {});
  const grade = (recall: Recall) => (event: Event) => void attempt(event.currentTarget as HTMLButtonElement, problem, async () => {
    await once(`review.${question.id}`, recall, (requestId) =>
      app.client.unary(QuizService.method.reviewQuestion, { questionId: question.id, recall, requestId }));
    show(app, where, rest);
  });
  const answer: Child = h("div", { class: "stack" }, ...drawKey(app, question), h("p", { class: "faint small" }, t("review.how")),
    problem, h("div", { class: "grades" }, ...GRADES.map((recall) =>
      h("button", { onclick: grade(recall) }, named("review", String(recall), "review.3")))));
  const hidden = h("div", {}, h("button", { class: "main", onclick: () => fill(hidden, answer) }, t("review.show")));
  fill(where, h("article", { class: "card stack" },
    h("p", { class: "faint small" }, t("review.left", { n: rest.length + 1 })),
    h("p", { class: "stem", dir: directionOf(question.stem) }, ...line(question.stem)),
    question.options.length > 0 && h("ul", {}, ...question.options.map((option) => h("li", { dir: directionOf(option) }, ...line(option)))),
    hidden));
}
