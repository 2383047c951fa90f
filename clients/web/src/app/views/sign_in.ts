// Signing up and signing in, by e-mail or by phone.
import type { Session } from "../../gen/bacmr/v1/auth_pb.js";
import { AuthService } from "../../gen/bacmr/v1/auth_pb.js";
import { Language } from "../../gen/bacmr/v1/language_pb.js";
import { once } from "../../client/request_id.js";
import type { App, View } from "../app.js";
import { fill, h } from "../dom.js";
import { t, tongue } from "../i18n.js";
import { attempt } from "../notice.js";

const COUNTRY = "+222";

export const signInView: View = (app) => {
  const section = h("section", { class: "narrow" });
  const draw = (signUp: boolean) => fill(section, ...form(app, signUp, () => draw(!signUp)));
  draw(false);
  return section;
};

function form(app: App, signUp: boolean, other: () => void): HTMLElement[] {
  const name = h("input", { id: "name", autocomplete: "name", maxlength: 100, dir: "auto" });
  const who = h("input", {
    id: "who", required: true, autocomplete: "username", autocapitalize: "none", spellcheck: "false", dir: "ltr",
    maxlength: 254, "aria-describedby": "who-hint",
  });
  const password = h("input", {
    id: "password", type: "password", required: true, minlength: signUp ? 8 : 1, maxlength: 128, dir: "ltr",
    autocomplete: signUp ? "new-password" : "current-password", "aria-describedby": "password-hint",
  });
  const show = h("input", {
    type: "checkbox", onchange: () => { password.type = show.checked ? "text" : "password"; },
  });
  const button = h("button", { class: "main", type: "submit" }, t(signUp ? "account.signup" : "account.signin"));
  const problem = h("div", { "aria-live": "assertive" });
  const submit = (event: Event) => {
    event.preventDefault();
    void attempt(button, problem, async () => {
      const session = await enter(app, signUp, name.value.trim(), who.value, password.value);
      if (session) app.signIn(session);
    });
  };
  return [
    h("h1", { class: "hero" }, t("brand.line")),
    h("h2", {}, t(signUp ? "account.signup" : "account.signin")),
    h("form", { class: "card stack", onsubmit: submit },
      signUp && field(t("account.name"), name),
      field(t("account.who"), who, h("p", { class: "hint", id: "who-hint" }, t("account.who.hint"))),
      field(t("account.password"), password,
        h("p", { class: "hint", id: "password-hint" }, signUp ? t("account.password.hint") : "")),
      h("label", { class: "check" }, show, t("account.password.show")),
      problem,
      button,
      signUp && h("p", { class: "hint" }, t("account.welcome")),
    ),
    h("p", {}, h("button", { onclick: other }, t(signUp ? "account.have" : "account.none"))),
  ];
}

function field(label: string, input: HTMLElement, ...more: HTMLElement[]): HTMLElement {
  return h("div", { class: "stack tight" }, h("label", { for: input.id }, label), input, ...more);
}

async function enter(app: App, signUp: boolean, displayName: string, who: string, password: string): Promise<Session | undefined> {
  const account = { ...named(who), password, deviceName: device() };
  const { signUp: enrol, signIn } = AuthService.method;
  if (!signUp) return (await app.client.unary(signIn, account)).session;
  const preferredLanguage = tongue() === "ar" ? Language.ARABIC : Language.FRENCH;
  return once("sign-up", who, async (requestId) =>
    (await app.client.unary(enrol, { ...account, displayName, preferredLanguage, requestId })).session);
}

/** Read an account's name: a phone number may come with spaces and without the country. */
export function named(who: string): { email: string } | { phone: string } {
  const text = who.trim();
  const digits = text.replace(/[\s().-]/g, "").replace(/^00/, "+");
  if (!/^\+?\d{8,15}$/.test(digits)) return { email: text };
  return { phone: digits.startsWith("+") ? digits : COUNTRY + digits };
}

function device(): string {
  const [, system = ""] = /\(([^;)]*)/.exec(navigator.userAgent) ?? [];
  return `web · ${system}`.slice(0, 100);
}
