// node web.mjs BASE CHROMIUM SCENARIO [JSON]: uses the web app as its people do, prints what they see as JSON.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [base, program, scenario, given = "{}"] = process.argv.slice(2);
const options = JSON.parse(given);
const PATIENCE_MS = 30_000;

const profile = mkdtempSync(join(tmpdir(), "bacmr-web-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: program,
  headless: true,
  viewport: { width: 320, height: 640 },
  locale: options.locale ?? "fr-FR",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
browser.setDefaultTimeout(PATIENCE_MS);
const page = await browser.newPage();
const complaints = [];
page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
page.on("pageerror", (error) => complaints.push(String(error)));

const asked = ".composer button";
const paths = { widest: 0, unnamed: [] };

await page.addInitScript(() => {
  window.enlarged = (measure) => {
    document.documentElement.style.fontSize = "200%";
    try {
      return measure();
    } finally {
      document.documentElement.style.fontSize = "";
    }
  };
});

/** What every page must keep: nothing wider than a small phone, also in letters twice as large; a name for every control. */
async function look() {
  const { width, large, unnamed } = await page.evaluate(() => ({
    width: document.documentElement.scrollWidth,
    large: enlarged(() => document.documentElement.scrollWidth),
    unnamed: [...document.querySelectorAll("input, textarea, select, button, a[href], progress, meter")]
      .filter((control) => !(control.labels?.length || control.ariaLabel || control.textContent.trim()))
      .map((control) => control.outerHTML),
  }));
  paths.widest = Math.max(paths.widest, width, large);
  paths.unnamed.push(...unnamed);
}

/** The part of a small phone's height that shows the answer while it is read, everything enlarged to 200 %. */
async function legible() {
  const usual = page.viewportSize();
  await page.setViewportSize({ width: 160, height: 284 });
  const part = await page.evaluate(() => {
    const answer = document.querySelector(".turn:last-child .answer");
    answer.scrollIntoView({ block: "start" });
    let shown = 0;
    for (let y = 0; y < innerHeight; y++) shown += answer.contains(document.elementFromPoint(innerWidth / 2, y));
    return shown / innerHeight;
  });
  await page.setViewportSize(usual);
  return part;
}

async function enter({ account, password, signUp }) {
  await page.goto(base);
  if (signUp) {
    await page.click("section > p > button");
    await page.fill("#name", "Amina");
  }
  await page.fill("#who", account);
  await page.fill("#password", password);
  await look();
  await page.click("form button[type=submit]");
  await page.waitForSelector("nav");
}

const answered = (count) =>
  page.waitForFunction((count) => document.querySelectorAll(".turn footer").length === count, count);

async function ask(question) {
  await page.fill("#question", question);
  await page.click(asked);
}

/** Let the server do what it is asked, and its reply get lost, once. */
const loseReply = (method) =>
  page.route(`**${method}`, async (route) => {
    await route.fetch();
    await route.abort();
  }, { times: 1 });

function lastTurn() {
  return page.evaluate(() => {
    const turn = [...document.querySelectorAll(".turn")].at(-1);
    const first = turn.querySelector(".answer > *");
    const words = turn.querySelector(".answer").cloneNode(true);
    for (const number of words.querySelectorAll(".cite")) number.remove();
    return {
      text: words.textContent,
      lang: turn.querySelector(".answer").lang,
      direction: getComputedStyle(first).direction,
      receipt: turn.querySelector(".receipt")?.innerText ?? "",
      injected: document.querySelectorAll(".turn img, .turn b, dialog img").length,
    };
  });
}

async function openCitation() {
  await page.click(".turn:last-child .answer button.cite");
  await page.waitForSelector("dialog mark");
  const seen = await page.evaluate(() => ({
    heading: document.querySelector("dialog h2").textContent,
    page: document.querySelector("dialog header p").textContent,
    marked: [...document.querySelectorAll("dialog mark")].map((mark) => mark.textContent),
    passage: document.querySelector("dialog blockquote").textContent,
    direction: getComputedStyle(document.querySelector("dialog blockquote")).direction,
  }));
  await look();
  await page.keyboard.press("Escape");
  await page.waitForSelector("dialog", { state: "detached" });
  return seen;
}

async function ledger() {
  await page.goto(`${base}/#account`);
  await page.waitForSelector(".balance");
  await page.waitForSelector(".amount");
  await look();
  return page.evaluate(() => ({
    balance: document.querySelector(".balance").textContent,
    entries: [...document.querySelectorAll(".row")].map((row) => row.innerText.split("\n")[0]),
  }));
}

const scenarios = {
  /** Upload files one after another and watch each become ready. */
  async operator() {
    await enter(options);
    await page.click("nav a[href='#documents']");
    for (const { file, title } of options.files) {
      await page.setInputFiles("#file", file);
      await page.fill("#title", title);
      await page.click("form button[type=submit]");
      await page.waitForFunction((title) =>
        [...document.querySelectorAll(".job")].some((row) => row.textContent.includes(title) && row.querySelector(".state-6")), title);
    }
    await look();
    return {
      jobs: await page.$$eval(".job", (rows) => rows.map((row) => row.innerText)),
      documents: await page.$$eval("section > ul:last-child .row", (rows) => rows.map((row) => row.innerText)),
      parts: await page.$$eval("nav a", (links) => links.map((link) => link.hash)),
    };
  },

  /** Ask in both languages, open a citation of each, read the page in Arabic. */
  async asks() {
    await enter({ ...options, signUp: true });
    const seen = { parts: await page.$$eval("nav a", (links) => links.map((link) => link.hash)), turns: [] };
    await page.fill("#question", options.questions[0]);
    await page.waitForFunction(() => document.querySelector(".price").textContent);
    seen.price = await page.textContent(".price");
    for (const [at, question] of options.questions.entries()) {
      await ask(question);
      await answered(at + 1);
      await look();
      seen.turns.push({ ...(await lastTurn()), citation: await openCitation() });
    }
    seen.title = await page.title();
    seen.legible = await legible();
    await page.click("header > button");
    seen.page = await page.evaluate(() => ({ lang: document.documentElement.lang, dir: document.documentElement.dir }));
    await look();
    await page.reload();
    await answered(options.questions.length);
    seen.recalled = await lastTurn();
    seen.ledger = await ledger();
    await page.click("section > footer button");
    await page.waitForSelector("#who");
    seen.kept = await page.evaluate(() => Object.keys(localStorage));
    return seen;
  },

  /** Lose the link in the middle of an answer and open the page without it; lose the page in the middle of the next. */
  async drops() {
    await enter({ ...options, signUp: true });
    await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
    const begun = (count) => page.waitForFunction((count) =>
      ([...document.querySelectorAll(".answer")][count - 1]?.textContent.length ?? 0) > 20, count);
    const seen = { resumed: 0 };
    page.on("request", (request) => (seen.resumed += request.url().endsWith("/ResumeAsk") ? 1 : 0));
    await ask(options.questions[0]);
    await begun(1);
    await browser.setOffline(true);
    await page.waitForSelector(".turn .notice");
    seen.notice = await page.textContent(".turn .notice");
    seen.ended = await page.$$eval(".turn footer", (found) => found.length);
    await page.reload();
    await page.waitForSelector(".turn .notice");
    seen.offline = await lastTurn();
    await page.click("nav a[href='#account']");
    await page.waitForSelector("main [role=alert]");
    seen.alerts = await page.$$eval("main [role=alert]", (found) => found.length);
    await browser.setOffline(false);
    await page.click("main [role=alert] + p button");
    await page.waitForSelector(".balance");
    await page.click("nav a[href='#ask']");
    await answered(1);
    seen.first = await lastTurn();
    await ask(options.questions[1]);
    await begun(2);
    await page.reload();
    await answered(2);
    seen.second = await lastTurn();
    await loseReply("/Ask");
    await ask(options.questions[0]);
    await answered(3);
    seen.third = await lastTurn();
    seen.ledger = await ledger();
    await page.evaluate(() => localStorage.removeItem("bacmr.session"));
    await enter({ ...options, account: options.next, signUp: true });
    await page.click("nav a[href='#ask']");
    await page.waitForSelector("#question");
    seen.left = await page.evaluate(() => document.querySelectorAll(".turn").length);
    complaints.length = 0; // the browser itself reports each call that met no network
    return seen;
  },

  /** Ask what no page of the library answers. */
  async nothing() {
    await enter({ ...options, signUp: true });
    await ask(options.question);
    await answered(1);
    await page.waitForSelector(".turn [role=alert]");
    await look();
    const turn = await page.innerText(".turn");
    await page.reload();
    await page.waitForSelector(".turn [role=alert]");
    const again = await page.innerText(".turn");
    // As on another device: the conversation comes from the server alone.
    await page.evaluate(() => localStorage.removeItem("bacmr.ended"));
    await page.reload();
    await page.waitForSelector(".turn [role=alert]");
    const elsewhere = await page.innerText(".turn");
    return { turn, again, elsewhere, buttons: await page.$$eval(".turn button", (found) => found.length) };
  },

  /** Have a quiz made, answer it, read why. */
  async quiz() {
    await enter({ ...options, signUp: true });
    await page.click("nav a[href='#quiz']");
    await page.fill("#topic", options.topic);
    await loseReply("/GenerateQuiz");
    await page.selectOption("#size", "3");
    await look();
    await page.click("form button[type=submit]");
    await page.waitForSelector("fieldset");
    await look();
    for (const question of await page.$$("fieldset")) {
      const input = await question.$("input");
      if (await input.getAttribute("type")) await input.check();
      else await input.fill("x");
    }
    await page.click("form button[type=submit]");
    await page.waitForSelector(".score");
    await look();
    const seen = {
      score: await page.textContent(".score"),
      questions: await page.$$eval(".result", (results) => results.length),
      evidence: await page.$$eval(".evidence .quote", (quotes) => quotes.map((quote) => quote.textContent)),
    };
    await page.click(".evidence");
    await page.waitForSelector("dialog mark");
    seen.marked = await page.textContent("dialog mark");
    await page.keyboard.press("Escape");
    complaints.length = 0; // the browser itself reports the reply that was lost
    seen.ledger = await ledger();
    return seen;
  },
};

try {
  const seen = await scenarios[scenario]();
  console.log(JSON.stringify({ ...seen, complaints, ...paths }));
} catch (error) {
  console.error(complaints, await page.evaluate(() => document.body.innerText).catch(() => ""));
  throw error;
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
