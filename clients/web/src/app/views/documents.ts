// For teachers and administrators: documents into the library, and how far each one is.
import { once, uuid } from "../../client/request_id.js";
import { ACCEPTED, upload, type Step } from "../../client/upload.js";
import { IngestionService, Visibility, type Document } from "../../gen/bacmr/v1/ingestion_pb.js";
import type { App, View } from "../app.js";
import { fill, h } from "../dom.js";
import { t } from "../i18n.js";
import { attempt, load } from "../notice.js";
import { drawJob } from "./job.js";

const PAGE = 30;
const NAMESPACE = "[a-z0-9]([a-z0-9\\-]{0,62}[a-z0-9])?";

export const documentsView: View = (app, left) => {
  const jobs = h("ul", { class: "rows card" });
  const documents = h("ul", { class: "rows card" });
  const titles = new Map<string, string>();
  const reload = async () => {
    const page = { pageSize: PAGE };
    const [{ documents: stored }, { jobs: known }] = await Promise.all([
      app.client.unary(IngestionService.method.listDocuments, page, { signal: left }),
      app.client.unary(IngestionService.method.listIngestionJobs, page, { signal: left }),
    ]);
    for (const document of stored) titles.set(document.id, document.title);
    const title = (id: string) => titles.get(id) ?? id.slice(0, 8);
    fill(jobs, known.length ? known.map((job) => drawJob(app, job, title(job.documentId), left, refresh))
      : h("li", { class: "row faint" }, t("doc.jobs.none")));
    fill(documents, stored.length ? stored.map((document) => drawDocument(app, document, refresh))
      : h("li", { class: "row faint" }, t("doc.list.none")));
  };
  const trouble = h("div", {});
  const refresh = () => void load(trouble, left, reload);
  refresh();
  return h("section", { class: "stack" },
    h("h1", {}, t("doc.title")),
    h("p", { class: "lead" }, t("doc.lead")),
    window.isSecureContext ? form(app, left, refresh) : h("p", { class: "notice" }, t("doc.secure")),
    trouble,
    h("h2", {}, t("doc.jobs")), jobs,
    h("h2", {}, t("doc.list")), documents,
  );
};

function form(app: App, left: AbortSignal, added: () => void): HTMLElement {
  const file = h("input", { id: "file", type: "file", required: true, accept: ACCEPTED });
  const title = h("input", { id: "title", maxlength: 300, dir: "auto" });
  const namespace = h("input", { id: "namespace", required: true, pattern: NAMESPACE, maxlength: 64, dir: "ltr", value: "grade-12",
    autocapitalize: "none", "aria-describedby": "namespace-hint" });
  const subject = h("input", { id: "subject", maxlength: 64, dir: "auto" });
  const grade = h("input", { id: "grade", maxlength: 16, dir: "auto", value: "12" });
  const secret = h("input", { type: "checkbox" });
  const button = h("button", { class: "main", type: "submit" }, t("doc.upload"));
  const step = h("p", { class: "stage", role: "status" });
  const problem = h("div", {});
  const submit = (event: Event) => {
    event.preventDefault();
    const [chosen] = Array.from(file.files ?? []);
    if (!chosen) return;
    void attempt(button, problem, async () => {
      try {
        const visibility = secret.checked ? Visibility.PRIVATE : Visibility.SHARED;
        const told = (now: Step) => fill(step, words(now));
        const document = await upload(app.client, chosen, title.value.trim(), visibility, told, left);
        const place = { documentId: document.id, namespace: namespace.value, subject: subject.value.trim(), grade: grade.value.trim() };
        await once("ingest", place, (requestId) =>
          app.client.unary(IngestionService.method.createIngestionJob, { ...place, requestId }, { signal: left }));
        file.value = title.value = "";
        added();
      } finally {
        fill(step);
      }
    });
  };
  return h("form", { class: "card stack", onsubmit: submit },
    field(t("doc.file"), file),
    field(t("doc.name"), title),
    field(t("doc.namespace"), namespace, h("p", { class: "hint", id: "namespace-hint" }, t("doc.namespace.hint"))),
    h("div", { class: "pair" }, field(t("doc.subject"), subject), field(t("doc.grade"), grade)),
    h("label", { class: "check" }, secret, t("doc.private")),
    problem, step, button,
  );
}

function field(label: string, input: HTMLElement, ...more: HTMLElement[]): HTMLElement {
  return h("div", { class: "stack tight" }, h("label", { for: input.id }, label), input, ...more);
}

function words(step: Step): string {
  if (step.at === "hashing") return t("doc.hashing");
  if (step.at === "checking") return t("doc.checking");
  return t("doc.sending", { percent: Math.round(step.share * 100) });
}

function drawDocument(app: App, document: Document, changed: () => void): HTMLElement {
  const problem = h("div", {});
  const requestId = uuid();
  const remove = (event: Event) => {
    if (!confirm(t("doc.delete.sure", { title: document.title }))) return;
    void attempt(event.currentTarget as HTMLButtonElement, problem, async () => {
      await app.client.unary(IngestionService.method.deleteDocument, { documentId: document.id, requestId });
      changed();
    });
  };
  return h("li", { class: "row" },
    h("span", {},
      h("bdi", {}, document.title),
      h("span", { class: "faint small block" },
        t("doc.counts", { pages: document.pageCount, chunks: document.chunkCount }),
        " · ", h("bdi", {}, document.namespace || "—"), document.subject && " · ", h("bdi", {}, document.subject)),
      document.flaggedPageCount > 0 && h("span", { class: "warn small block" }, t("doc.flagged", { n: document.flaggedPageCount })),
      problem),
    h("button", { class: "plain small", onclick: remove }, t("delete")),
  );
}
