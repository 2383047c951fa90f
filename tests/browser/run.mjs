// node run.mjs PAGE_PORT BASE TOKEN CHROMIUM: serves the page on its own origin, opens it, prints what it saw as JSON.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { chromium } from "playwright-core";

const [port, base, token, program] = process.argv.slice(2);
const bundle = ".build/page.bundle.js";
await build({ entryPoints: ["page.js"], bundle: true, format: "iife", outfile: bundle, logLevel: "error" });

const page = createServer((request, response) => {
  const script = request.url === "/page.js";
  response.setHeader("content-type", script ? "text/javascript" : "text/html");
  response.end(script ? readFileSync(bundle) : '<!doctype html><script src="/page.js"></script>');
});
await new Promise((resolve) => page.listen(Number(port), "127.0.0.1", resolve));

const profile = mkdtempSync(join(tmpdir(), "bacmr-browser-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: program,
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
try {
  const tab = await browser.newPage();
  await tab.goto(`http://127.0.0.1:${port}/`);
  const seen = await tab.evaluate(([base, token]) => window.check(base, token), [base, token]);
  console.log(JSON.stringify(seen));
} finally {
  await browser.close();
  page.close();
  rmSync(profile, { recursive: true, force: true });
}
