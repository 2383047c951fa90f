// A document's way into the library, followed while it moves.
import { followed } from "../../client/follow.js";
import { once } from "../../client/request_id.js";
import { IngestionService, JobState, type Job } from "../../gen/bacmr/v1/ingestion_pb.js";
import type { App } from "../app.js";
import { fill, h, type Child } from "../dom.js";
import { moment, named, t } from "../i18n.js";
import { attempt } from "../notice.js";

const ENDED = new Set([JobState.READY, JobState.FAILED, JobState.CANCELLED]);

export function drawJob(app: App, job: Job, title: string, left: AbortSignal, changed: () => void): HTMLElement {
  const row = h("li", { class: "row job" });
  const draw = (now: Job) => fill(row, ...jobLines(app, now, title, changed));
  draw(job);
  if (!ENDED.has(job.state)) void watch(app, job, draw, left, changed);
  return row;
}

async function watch(app: App, job: Job, draw: (job: Job) => void, left: AbortSignal, ended: () => void): Promise<void> {
  let { state } = job;
  const open = (signal: AbortSignal) =>
    app.client.stream(IngestionService.method.watchIngestionJob, { jobId: job.id }, signal);
  try {
    for await (const event of followed(open, () => ENDED.has(state), () => undefined, left)) {
      if (!event.job) continue;
      state = event.job.state;
      draw(event.job);
    }
    ended();
  } catch {
    // The row keeps what was seen last; the list is read again when the page is opened again.
  }
}

function jobLines(app: App, job: Job, title: string, changed: () => void): Child[] {
  const { retryIngestionJob, cancelIngestionJob } = IngestionService.method;
  const problem = h("div", {});
  const act = (name: string, run: (requestId: string) => Promise<unknown>) => (event: Event) =>
    void attempt(event.currentTarget as HTMLButtonElement, problem, async () => {
      await once(`${name}.${job.id}`, "", run);
      changed();
    });
  const again = job.state === JobState.FAILED || job.state === JobState.CANCELLED;
  return [
    h("span", {},
      h("bdi", {}, title),
      h("span", { class: `small block state-${job.state}` }, named("job", String(job.state), "job.other"), ...counts(job)),
      job.failureReason !== "" && h("span", { class: "small block", dir: "auto" }, job.failureReason),
      !ENDED.has(job.state) && h("progress", { max: 1, value: share(job), "aria-label": title }),
      problem),
    again && h("button", { class: "small", onclick: act("retry", (requestId) => app.client.unary(retryIngestionJob, { jobId: job.id, requestId })) },
      t("retry")),
    !ENDED.has(job.state) && h("button", { class: "plain small", onclick: act("cancel", (requestId) =>
      app.client.unary(cancelIngestionJob, { jobId: job.id, requestId })) }, t("cancel")),
  ];
}

function counts(job: Job): string[] {
  const next = job.nextAttemptAt;
  return [
    job.pagesTotal ? t("doc.pages", { done: job.pagesDone, total: job.pagesTotal }) : "",
    job.chunksTotal ? t("doc.chunks", { done: job.chunksDone, total: job.chunksTotal }) : "",
    job.pagesRejected ? t("doc.rejected", { n: job.pagesRejected }) : "",
    job.attempts > 1 ? t("doc.try", { n: job.attempts }) : "",
    next && !ENDED.has(job.state) ? t("doc.next", { at: moment(new Date(Number(next.seconds) * 1000)) }) : "",
  ].filter(Boolean).map((words) => ` · ${words}`);
}

/** Reading is half of the work, making and writing vectors the other. Undefined while nothing can be said. */
function share(job: Job): number | undefined {
  if (!job.pagesTotal) return undefined;
  const written = job.chunksTotal ? job.chunksDone / job.chunksTotal : 0;
  return (job.pagesDone / job.pagesTotal + written) / 2;
}
