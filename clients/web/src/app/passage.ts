// The passage behind a citation, in a sheet over the page, with the quoted words marked.
import type { Client } from "../client/client.js";
import { IngestionService } from "../gen/bacmr/v1/ingestion_pb.js";
import { fill, h, icon } from "./dom.js";
import { t } from "./i18n.js";
import { alert } from "./notice.js";
import { directionOf } from "./prose.js";
import { marked } from "./text.js";

export interface Place {
  chunkId: string;
  title: string;
  page: number;
  quotes: readonly string[];
  /** The passage, when it is at hand. */
  text?: string | undefined;
}

const CROSS = "M6 6l12 12M18 6L6 18";

/** Show a passage, fetched where it is not at hand, until it is closed. */
export async function showPassage(client: Client, place: Place): Promise<void> {
  const body = h("div", { class: "passage" }, h("p", { class: "faint" }, t("loading")));
  const dialog = h("dialog", { class: "sheet", "aria-label": t("ask.quote") },
    h("header", {},
      h("div", {},
        h("h2", {}, h("bdi", {}, place.title)),
        h("p", { class: "faint" }, t("page", { n: place.page })),
      ),
      h("button", { class: "plain round", "aria-label": t("close"), onclick: () => dialog.close() }, icon(CROSS)),
    ),
    body,
  );
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  try {
    const text = place.text ?? (await passageText(client, place.chunkId)) ?? place.quotes.join("\n");
    fill(body, drawPassage(text, place.quotes));
    body.querySelector("mark")?.scrollIntoView({ block: "center" });
  } catch (error) {
    fill(body, ...place.quotes.map((quote) => drawPassage(quote, [quote])), alert(error));
  }
}

/** Draw a passage with its quotes marked. */
export function drawPassage(text: string, quotes: readonly string[]): HTMLElement {
  const pieces = marked(text, quotes).map(({ text, quoted }) => (quoted ? h("mark", {}, text) : text));
  return h("blockquote", { dir: directionOf(text) }, ...pieces);
}

async function passageText(client: Client, chunkId: string): Promise<string | undefined> {
  const { chunks } = await client.unary(IngestionService.method.batchGetChunks, { chunkIds: [chunkId] });
  return chunks[0]?.text;
}
