// An answer's text as elements: direction by each block's own letters, formulas and numbers kept apart from it.
import { h, type Child } from "./dom.js";
import { blocks, indices, parts, tied, wordsOf, type Part } from "./text.js";

/** A formula up to this long stands on one line. */
const UNBROKEN = 24;

export type Cite = (number: number) => HTMLElement;

/** Draw a text. `cite` draws the numbers that point to passages. */
export function prose(text: string, cite: Cite): HTMLElement[] {
  const drawn: HTMLElement[] = [];
  let list: HTMLElement | undefined;
  for (const block of blocks(text)) {
    const children = block.parts.map((part) => inline(part, cite));
    if (block.kind === "bullet" || block.kind === "numbered") {
      const tag = block.kind === "bullet" ? "ul" : "ol";
      if (list?.localName !== tag) {
        list = h(tag, { dir: directionOf(wordsOf(block.parts)) });
        drawn.push(list);
      }
      list.append(h("li", { dir: directionOf(wordsOf(block.parts)), value: block.number }, ...children));
    } else {
      list = undefined;
      drawn.push(h(block.kind === "heading" ? "h4" : "p", { dir: directionOf(wordsOf(block.parts)) }, ...children));
    }
  }
  return drawn;
}

/** Draw one line of somebody's words, where numbers in brackets are no citations. */
export function line(text: string): Child[] {
  return parts(text).map((part) => inline(part, (number) => h("span", {}, `[${number}]`)));
}

/** `auto` looks at the first letter, which a formula or a Latin name may be: here the words decide. */
export function directionOf(words: string): "rtl" | "ltr" {
  const arabic = words.match(/[\u0600-\u06ff\u0750-\u077f\ufb50-\ufefc]/g)?.length ?? 0;
  const latin = words.match(/[A-Za-zÀ-ÿ]/g)?.length ?? 0;
  return arabic > latin ? "rtl" : "ltr";
}

function inline(part: Part, cite: Cite): Child {
  switch (part.kind) {
    case "text":
      return tied(part.text);
    case "strong":
      return h("strong", {}, tied(part.text));
    case "citation":
      return h("bdi", {}, cite(part.number));
    case "formula":
      return h("bdi", { dir: "ltr", class: part.text.length <= UNBROKEN ? "formula whole" : "formula" },
        ...indices(part.text).map(({ text, place }) => (place === "base" ? text : h(place, {}, text))));
    case "quote":
      return ["«\u00a0", h("bdi", { dir: directionOf(wordsOf(part.parts)) }, ...part.parts.map((within) => inline(within, cite))),
        part.closed && "\u00a0»"];
  }
}
