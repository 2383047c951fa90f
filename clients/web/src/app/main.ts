// The page: who is here decides what is shown, the address which part of it.
import { Client } from "../client/client.js";
import { AuthService, type Session } from "../gen/bacmr/v1/auth_pb.js";
import { Role } from "../gen/bacmr/v1/access_pb.js";
import { WalletService } from "../gen/bacmr/v1/wallet_pb.js";
import { belongTo, forgetEverything, type App, type View } from "./app.js";
import { Conversation } from "./conversation.js";
import { fill, h, icon } from "./dom.js";
import { choose, t, tongue, type Key } from "./i18n.js";
import { accountView } from "./views/account.js";
import { askView } from "./views/ask.js";
import { quizView } from "./views/quiz.js";
import { reviewView } from "./views/review.js";
import { signInView } from "./views/sign_in.js";

interface Part {
  words: Key;
  icon: string;
  view: () => View | Promise<View>;
  operators?: boolean;
}

const PARTS: Record<string, Part> = {
  ask: { words: "nav.ask", view: () => askView, icon: "M4 5h16v11H9l-5 4z" },
  quiz: { words: "nav.quiz", view: () => quizView, icon: "M5 4h14v16H5zM9 9h6M9 13h6M9 17h3" },
  review: { words: "nav.review", view: () => reviewView, icon: "M4 12a8 8 0 0 1 14-5l2 2M20 4v5h-5M20 12a8 8 0 0 1-14 5l-2-2M4 20v-5h5" },
  documents: {
    words: "nav.documents",
    view: async () => (await import("./views/documents.js")).documentsView,
    icon: "M12 16V4M7 9l5-5l5 5M5 20h14",
    operators: true,
  },
  account: { words: "nav.account", view: () => accountView, icon: "M12 12a4 4 0 1 0 0-8a4 4 0 0 0 0 8M4 20c1-4 4-6 8-6s7 2 8 6" },
};
const FIRST = "ask";
const WORKER = "sw.js";

class Page implements App {
  readonly client = new Client("", () => this.redraw());
  readonly conversation = new Conversation(this.client);
  balance: number | undefined;
  private shownTo: string | undefined;
  private left = new AbortController();
  private readonly purse = h("a", { href: "#account", class: "purse" });

  start(): void {
    choose();
    this.conversation.settled = (balance) => this.spend(balance);
    addEventListener("hashchange", () => {
      this.redraw();
      document.getElementById("main")?.focus({ preventScroll: true });
    });
    // Another tab signed in or out; a mere renewal of its tokens changes nothing here.
    addEventListener("storage", () => this.client.sessions.person?.id !== this.shownTo && location.reload());
    this.redraw();
    if (this.shownTo) this.enter();
  }

  /** What begins once somebody is signed in. */
  private enter(): void {
    this.spend();
    this.conversation.restore().catch(() => undefined);
  }

  signIn(session: Session): void {
    belongTo(session.user?.id ?? "");
    this.client.sessions.keep(session);
    this.conversation.forget();
    this.balance = undefined;
    this.redraw();
    this.enter();
  }

  spend(balance?: number): void {
    if (balance === undefined) {
      this.client.unary(WalletService.method.getBalance, {})
        .then((known) => this.spend(Number(known.availableTokens)), () => undefined);
      return;
    }
    this.balance = balance;
    fill(this.purse, t("tokens", { n: balance }));
  }

  /** Draw the page again, for another part, in another language or for another person. */
  private redraw(): void {
    this.shownTo = this.client.sessions.person?.id;
    const signedIn = this.shownTo !== undefined;
    this.left.abort();
    this.left = new AbortController();
    const parts = this.parts();
    const name = location.hash.slice(1) in parts ? location.hash.slice(1) : FIRST;
    const main = h("main", { id: "main", tabindex: -1 });
    fill(document.getElementById("page")!, this.header(), main, signedIn && navigation(parts, name));
    if (signedIn) void this.show(main, parts[name]!, this.left.signal);
    else main.append(signInView(this, this.left.signal));
    scrollTo({ top: 0 });
  }

  signOut(): void {
    this.client.unary(AuthService.method.signOut, {}).catch(() => undefined).finally(() => {
      this.conversation.forget();
      this.balance = undefined;
      forgetEverything();
      location.hash = "";
      this.redraw();
    });
  }

  private async show(main: HTMLElement, part: Part, left: AbortSignal): Promise<void> {
    const view = await part.view();
    if (!left.aborted) main.append(view(this, left));
  }

  private parts(): Record<string, Part> {
    const role = this.client.sessions.person?.role;
    const operator = role === Role.TEACHER || role === Role.ADMIN;
    return Object.fromEntries(Object.entries(PARTS).filter(([, part]) => operator || !part.operators));
  }

  private header(): HTMLElement {
    const other = tongue() === "ar" ? "fr" : "ar";
    const change = () => {
      choose(other);
      this.redraw();
    };
    fill(this.purse, this.balance === undefined ? "" : t("tokens", { n: this.balance }));
    return h("header", { class: "top" },
      h("a", { class: "skip", href: "#main", onclick: skip }, t("skip")),
      h("a", { class: "brand", href: "#ask" }, "BacMR"),
      this.client.sessions.person && this.purse,
      h("button", { class: "plain small", lang: other, onclick: change }, t("tongue")),
    );
  }
}

/** The address names parts of the page, so the link cannot name the content. */
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function navigation(parts: Record<string, Part>, current: string): HTMLElement {
  return h("nav", { "aria-label": t("nav.label") }, ...Object.entries(parts).map(([name, part]) =>
    h("a", {
      href: `#${name}`,
      "aria-current": name === current ? "page" : undefined,
      onclick: name === current ? () => scrollTo({ top: 0 }) : undefined,
    }, icon(part.icon), t(part.words))));
}

declare global {
  /** Not in TypeScript's library yet. */
  interface Window {
    trustedTypes?: {
      createPolicy(name: string, rules: { createScriptURL(url: string): string }): { createScriptURL(url: string): string };
    };
  }
}

/** Keep the page itself for days without a link. Where browsers keep none, it just needs the link. */
function keepPage(): void {
  const trusted = window.trustedTypes?.createPolicy("bacmr", { createScriptURL: (url) => url });
  navigator.serviceWorker?.register(trusted?.createScriptURL(WORKER) ?? WORKER).catch(() => undefined);
}

new Page().start();
addEventListener("load", keepPage);
