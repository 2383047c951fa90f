// node --test: what becomes of a model's words, and of a person's.
import assert from "node:assert/strict";
import { test } from "node:test";
import { build } from "esbuild";

const { outputFiles } = await build({ entryPoints: ["src/app/text.ts"], bundle: true, format: "esm", write: false });
const { blocks, indices, marked, parts, wordsOf } = await import(
  `data:text/javascript;base64,${Buffer.from(outputFiles[0].text).toString("base64")}`
);
const formulas = (line) => parts(line).flatMap((part) => (part.kind === "formula" ? [part.text] : []));

test("formulas are found among words of both scripts, and words are none", () => {
  assert.deepEqual(formulas("on calcule la différence u_{n+1} − u_n et on vérifie"), ["u_{n+1} − u_n"]);
  assert.deepEqual(formulas("suite arithmétique de premier terme u_0 et de raison r est u_n = u_0 + n × r"),
    ["u_0", "u_n = u_0 + n × r"]);
  assert.deepEqual(formulas("متتالية حسابية u(n+1) = u(n) + r ؟"), ["u(n+1) = u(n) + r"]);
  assert.deepEqual(formulas("contraire : F(A→B) = −F(B→A)."), ["F(A→B) = −F(B→A)"]);
  assert.deepEqual(formulas("soit $f(x)=x^2$ et \\(a < b\\)"), ["f(x)=x^2", "a < b"]);
  assert.deepEqual(formulas("(a+b)² = a² + 2ab + b²"), ["(a+b)² = a² + 2ab + b²"]);
  for (const words of ["qu'a-t-il vu, c'est-à-dire", "la ou les phrase(s)", "un vis-à-vis", "x = suite", "Il y a 3 pommes"]) {
    assert.deepEqual(formulas(words), []);
  }
});

test("citation numbers stand for themselves, alone or several", () => {
  const numbers = (line) => parts(line).flatMap((part) => (part.kind === "citation" ? [part.number] : []));
  assert.deepEqual(numbers("vrai [1]. Aussi [2, 3] et [4،5]."), [1, 2, 3, 4, 5]);
  assert.deepEqual(numbers("l'année [1960]"), []);
});

test("a citation number stays with the word before it", () => {
  assert.equal(parts("vrai [1]")[0].text, "vrai\u00a0");
});

test("a quotation keeps its own language, also while it is still open", () => {
  const [lead, quote, number] = parts("تقول المقاطع: « Une suite u_n est » [1]");
  assert.equal(wordsOf([lead, quote]).trim(), "تقول المقاطع:");
  assert.deepEqual(quote.parts.map((part) => part.kind), ["text", "formula", "text"]);
  assert.equal(number.kind, "text");
  const { kind, closed } = parts("Il dit : « Une sui")[1];
  assert.deepEqual([kind, closed, quote.closed], ["quote", false, true]);
  assert.equal(wordsOf(parts("« Une suite »")), "Une suite");
});

test("lines become headings, items and paragraphs", () => {
  const kinds = blocks("## Titre\n- un\n2. deux\n\nfin **fort**").map((block) => block.kind);
  assert.deepEqual(kinds, ["heading", "bullet", "numbered", "paragraph"]);
});

test("nothing of a text is lost or made up", () => {
  const flat = (all) => all.map((part) => part.text ?? (part.parts ? flat(part.parts) : part.number)).join("");
  const bare = (text) => String(text).replace(/[\s«»[\]*$]/g, "");
  for (const text of ["a «b» c [2] **d** e_1 + f", "نص u_n = 2 « مقتبس » [1]", "«", "[", "**", "$", "<b>x</b>"]) {
    assert.equal(bare(flat(parts(text))), bare(text));
  }
});

test("no text takes long to read", () => {
  const began = performance.now();
  for (const text of ["a+", "1", "(", "a(b + ", "«", "« a ", "**", "$a", "[1", "u_n = "]) blocks(`${text.repeat(1500)}abcd`);
  assert.ok(performance.now() - began < 2_000);
});

test("quotes are marked in their passage, overlaps once", () => {
  assert.deepEqual(marked("abcdef", ["bcd", "cde", "x"]).map((piece) => [piece.text, piece.quoted]),
    [["a", false], ["bcd", true], ["e", true], ["f", false]]);
});

test("indices are taken apart", () => {
  assert.deepEqual(indices("u_{n+1} = x^2").map((piece) => [piece.text, piece.place]),
    [["u", "base"], ["n+1", "sub"], [" = x", "base"], ["2", "sup"]]);
});
