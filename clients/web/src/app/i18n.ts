// The page's own words, in French and Arabic. Speakers of Hassaniya read the Arabic ones.
import { arabic } from "./words_ar.js";
import { french } from "./words_fr.js";

export type Words = Record<keyof typeof french, string>;
export type Key = keyof Words;
export type Tongue = "fr" | "ar";

const KEY = "bacmr.tongue";
const ALL: Record<Tongue, Words> = { fr: french, ar: arabic };
/** Mauritania writes Western digits in Arabic too, and groups them as in French: a comma is a decimal's. */
const NUMBERS = "fr";
const DATES: Record<Tongue, string> = { fr: "fr", ar: "ar-u-nu-latn" };

let current: Tongue = "fr";

export function tongue(): Tongue {
  return current;
}

/** Speak the language chosen before, or the browser's. */
export function choose(wanted?: Tongue): void {
  if (wanted) localStorage.setItem(KEY, wanted);
  const kept = wanted ?? localStorage.getItem(KEY) ?? navigator.language.slice(0, 2);
  current = kept === "ar" ? "ar" : "fr";
  document.documentElement.lang = current;
  document.documentElement.dir = current === "ar" ? "rtl" : "ltr";
  document.title = t("title");
}

/** Return the words of a key, with `{name}` filled in. */
export function t(key: Key, values: Readonly<Record<string, string | number>> = {}): string {
  return ALL[current][key].replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = values[name] ?? "";
    return typeof value === "number" ? count(value) : value;
  });
}

/** Return the words of a name that the server gave, or of `otherwise` when this page does not know it. */
export function named(prefix: string, name: string, otherwise: Key): string {
  const key = `${prefix}.${name}`;
  return key in french ? t(key as Key) : t(otherwise);
}

export function count(value: number): string {
  return new Intl.NumberFormat(NUMBERS).format(value);
}

export function moment(at: Date): string {
  return new Intl.DateTimeFormat(DATES[current], { dateStyle: "medium", timeStyle: "short" }).format(at);
}
