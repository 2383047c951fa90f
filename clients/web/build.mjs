// Builds dist/: what the server's HTTP port serves. The same sources give the same bytes.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { build } from "esbuild";

const OUT = process.argv[2] ?? "dist";
/** Phones of about 2020 and later. */
const TARGET = ["chrome87", "firefox86", "safari14.1"];

rmSync(OUT, { recursive: true, force: true });
mkdirSync(OUT, { recursive: true });
const { metafile } = await build({
  entryPoints: { app: "src/app/main.ts", style: "src/style.css" },
  bundle: true,
  minify: true,
  splitting: true,
  format: "esm",
  target: TARGET,
  outdir: join(OUT, "assets"),
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  legalComments: "none",
  charset: "utf8",
  metafile: true,
  logLevel: "error",
});

const made = Object.entries(metafile.outputs);
const named = (entry) => "assets/" + basename(made.find(([, output]) => output.entryPoint === entry)[0]);
// What the script imports at once is named in the page, so that a slow link fetches both together.
const shared = made.find(([, output]) => output.entryPoint === "src/app/main.ts")[1].imports
  .filter(({ kind }) => kind === "import-statement")
  .map(({ path }) => `<link rel="modulepreload" href="assets/${basename(path)}">`);
const page = readFileSync("src/index.html", "utf8")
  .replace("{{style}}", named("src/style.css"))
  .replace("{{shared}}", shared.join(""))
  .replace("{{script}}", named("src/app/main.ts"));
writeFileSync(join(OUT, "index.html"), page);

const files = made.map(([path]) => "assets/" + basename(path)).sort();
await build({
  entryPoints: { sw: "src/sw.ts" },
  bundle: true,
  minify: true,
  format: "iife",
  target: TARGET,
  define: { FILES: JSON.stringify(files) },
  outdir: OUT,
  logLevel: "error",
});

// The notices of what is bundled, each once: their comments are not in the code that phones load.
const bundled = made.flatMap(([, output]) => Object.keys(output.inputs)).filter((path) => path.includes("node_modules"));
const notices = new Set(bundled.sort().map((path) => /^(?:\/\/.*\n)*/.exec(readFileSync(path, "utf8"))[0]));
const apache = readFileSync("licences/Apache-2.0.txt", "utf8");
writeFileSync(
  join(OUT, "licences.txt"),
  `The scripts of this folder contain @bufbuild/protobuf under these terms:\n\n${[...notices].join("\n")}\n${apache}`,
);
