// What a model writes, as blocks of inline parts: the little Markdown models use, citation numbers, formulas. Pure.

export type Part =
  | { kind: "text" | "strong"; text: string }
  /** A formula stands left to right also within Arabic, as `u(n+1) = u(n) + r` does. */
  | { kind: "formula"; text: string }
  | { kind: "citation"; number: number }
  /** Words of a page, in their own language whatever the sentence around them speaks. */
  | { kind: "quote"; parts: Part[]; closed: boolean };

export interface Block {
  kind: "paragraph" | "heading" | "bullet" | "numbered";
  parts: Part[];
  /** Of a numbered item. */
  number?: number;
}

/** Split an answer into blocks. */
export function blocks(text: string): Block[] {
  const found: Block[] = [];
  for (const line of text.split("\n")) {
    const [, mark, rest] = /^\s*(#{1,6}|[-*•]|\d{1,3}[.)])\s+(.*)$/.exec(line) ?? [];
    if (mark !== undefined && rest !== undefined) {
      if (mark.startsWith("#")) found.push({ kind: "heading", parts: parts(rest) });
      else if (/\d/.test(mark)) found.push({ kind: "numbered", number: parseInt(mark, 10), parts: parts(rest) });
      else found.push({ kind: "bullet", parts: parts(rest) });
    } else if (line.trim()) {
      found.push({ kind: "paragraph", parts: parts(line.trim()) });
    }
  }
  return found;
}

const NAME = "(?:sin|cos|tan|ln|log|exp|lim|[A-Za-z\u0370-\u03ff]{1,2})";
const INDEX = String.raw`[_^](?:\{[^{}]*\}|\w)`;
const SUFFIX = `(?:${INDEX}|[\u00b2\u00b3\u00b9\u2070-\u209f\u2032]|\\([^()]{0,40}\\))`;
const TERM = `[\u2212-]?(?:(?:\\d{1,12}(?:[.,]\\d{1,12})?${NAME}?|${NAME})${SUFFIX}*|\\([^()]{1,40}\\)${SUFFIX}*)`;
const OPERATOR = "(?: - | ?[=+\u2212\u00d7\u00f7\u00b1\u2248\u2260\u2264\u2265<>\u2192\u00b7*/\u2208] ?)";
const FUNCTION = String.raw`[A-Za-z]\([^()\s]{1,12}\)`;
const FORMULA = `(?:${TERM}(?:${OPERATOR}${TERM}){1,20}|${NAME}${INDEX}|${FUNCTION})(?![A-Za-zÀ-ÿ])`;
const INLINE = new RegExp(
  [
    String.raw`\[(\d{1,2}(?:\s*[,،;]\s*\d{1,2})*)\]`, // [1] or [1, 2]
    String.raw`\*\*(.+?)\*\*`,
    String.raw`\$\$?(.+?)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]`, // TeX
    String.raw`«\s*([^«»]+?)\s*(?:»|$)`, // open to the end while it is being written
    `(${FORMULA})`,
  ].join("|"),
  "g",
);
const LETTER = /[A-Za-zÀ-ÿ]/;

/** Keep French signs with their word: no line begins with `?` or `»`. */
export function tied(text: string): string {
  return text.replace(/ (?=[?!:;»])/g, "\u00a0").replace(/« /g, "«\u00a0");
}

/** Keep a citation's number with the word before it. */
function numbered(text: string): string {
  return text.replace(/ $/, "\u00a0");
}

/** Split one line. */
export function parts(line: string): Part[] {
  const found: Part[] = [];
  let end = 0;
  for (const match of line.matchAll(INLINE)) {
    const [whole, numbers, strong, dollars, round, square, quote, bare] = match;
    if (bare && LETTER.test(line[match.index - 1] ?? "")) continue; // the end of a word
    if (match.index > end) found.push({ kind: "text", text: line.slice(end, match.index) });
    const formula = dollars ?? round ?? square ?? bare;
    const before = found[found.length - 1];
    if (numbers && before?.kind === "text") before.text = numbered(before.text);
    if (numbers) for (const number of numbers.split(/[,،;]/)) found.push({ kind: "citation", number: Number(number) });
    else if (strong) found.push({ kind: "strong", text: strong });
    else if (formula) found.push({ kind: "formula", text: formula });
    else if (quote) found.push({ kind: "quote", parts: parts(quote), closed: whole.endsWith("»") });
    end = match.index + whole.length;
  }
  if (end < line.length) found.push({ kind: "text", text: line.slice(end) });
  return found;
}

/** Return the words of parts, without formulas and numbers; with those of quotes only when there are no others. */
export function wordsOf(all: readonly Part[]): string {
  const own = all.map((part) => (part.kind === "text" || part.kind === "strong" ? part.text : "")).join(" ");
  if (/\p{L}/u.test(own)) return own;
  return all.map((part) => (part.kind === "quote" ? wordsOf(part.parts) : "")).join(" ");
}

/** Split a passage around its quotes; places are found by the text itself. Overlaps become one mark. */
export function marked(text: string, quotes: readonly string[]): { text: string; quoted: boolean }[] {
  const spans = quotes
    .map((quote) => ({ start: text.indexOf(quote), size: quote.length }))
    .filter(({ start, size }) => start >= 0 && size > 0)
    .sort((a, b) => a.start - b.start);
  const pieces: { text: string; quoted: boolean }[] = [];
  let end = 0;
  for (const { start, size } of spans) {
    const from = Math.max(start, end);
    if (start + size <= end) continue;
    if (from > end) pieces.push({ text: text.slice(end, from), quoted: false });
    pieces.push({ text: text.slice(from, start + size), quoted: true });
    end = start + size;
  }
  if (end < text.length) pieces.push({ text: text.slice(end), quoted: false });
  return pieces;
}

/** Split a formula into its base, its lower and its upper indices, as in `u_{n+1}` and `x^2`. */
export function indices(formula: string): { text: string; place: "base" | "sub" | "sup" }[] {
  return Array.from(formula.matchAll(/([_^])(?:\{([^{}]*)\}|(\w))|[^_^]+|[_^]/g), ([whole, mark, braced, single]) => {
    const index = braced ?? single;
    return index === undefined ? { text: whole, place: "base" } : { text: index, place: mark === "_" ? "sub" : "sup" };
  });
}
