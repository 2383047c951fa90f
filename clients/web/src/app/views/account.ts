// The wallet: what is left, a code to top it up, every movement. And the way out.
import { once } from "../../client/request_id.js";
import { WalletService, type LedgerEntry } from "../../gen/bacmr/v1/wallet_pb.js";
import type { App, View } from "../app.js";
import { announce, fill, h } from "../dom.js";
import { count, moment, named, t } from "../i18n.js";
import { attempt, load } from "../notice.js";

/** The account of the tokens that can be spent. */
const AVAILABLE = "user:available";
const PAGE = 30;

export const accountView: View = (app, left) => {
  const { person } = app.client.sessions;
  const trouble = h("div", {});
  const balance = h("div", {});
  const ledger = h("ul", { class: "rows card" });
  const more = h("div", {});
  const reload = () => {
    fill(ledger);
    void load(trouble, left, () => Promise.all([showBalance(app, balance, left), showEntries(app, ledger, more, "", left)]));
  };
  reload();
  return h("section", { class: "stack" },
    h("h1", {}, t("wallet.title")),
    trouble,
    balance,
    voucher(app, reload),
    h("h2", {}, t("wallet.ledger")),
    ledger,
    more,
    h("footer", { class: "stack tight" },
      h("p", { class: "faint" }, h("bdi", {}, person?.name || person?.account || ""), person?.name && [" ", h("bdi", { class: "small" }, person.account)]),
      h("p", {}, h("button", { onclick: () => app.signOut() }, t("account.signout")))),
  );
};

async function showBalance(app: App, where: HTMLElement, signal: AbortSignal): Promise<void> {
  const { availableTokens, heldTokens } = await app.client.unary(WalletService.method.getBalance, {}, { signal });
  app.spend(Number(availableTokens));
  fill(where, h("p", { class: "balance" }, count(Number(availableTokens))),
    heldTokens > 0n && h("p", { class: "faint small" }, t("wallet.held", { n: Number(heldTokens) })));
}

function voucher(app: App, redeemed: () => void): HTMLElement {
  const code = h("input", {
    id: "voucher", required: true, minlength: 8, maxlength: 64, dir: "ltr", autocomplete: "off", autocapitalize: "characters", spellcheck: "false",
  });
  const button = h("button", { class: "main", type: "submit" }, t("wallet.redeem"));
  const outcome = h("div", { "aria-live": "polite" });
  const submit = (event: Event) => {
    event.preventDefault();
    void attempt(button, outcome, async () => {
      const value = code.value.trim();
      const { tokens } = await once("voucher", value, (requestId) =>
        app.client.unary(WalletService.method.redeemVoucher, { code: value, requestId }));
      code.value = "";
      fill(outcome, h("p", { class: "notice good" }, t("wallet.redeemed", { n: Number(tokens) })));
      announce(t("wallet.redeemed", { n: Number(tokens) }));
      redeemed();
    });
  };
  return h("form", { class: "card stack tight", onsubmit: submit },
    h("label", { for: "voucher" }, t("wallet.voucher")),
    h("div", { class: "join" }, code, button),
    outcome);
}

async function showEntries(app: App, list: HTMLElement, more: HTMLElement, pageToken: string, signal: AbortSignal): Promise<void> {
  const page = await app.client.unary(WalletService.method.listLedgerEntries, { pageSize: PAGE, pageToken }, { signal });
  list.append(...page.entries.map(entry));
  if (!list.childElementCount) list.append(h("li", { class: "row faint" }, t("wallet.ledger.none")));
  const next = () => void load(more, signal, () => showEntries(app, list, more, page.nextPageToken, signal));
  fill(more, page.nextPageToken !== "" && h("button", { onclick: next }, t("more")));
}

function entry(found: LedgerEntry): HTMLElement {
  const amount = Number(found.amountTokens);
  const sign = found.creditAccount === AVAILABLE ? "+" : found.debitAccount === AVAILABLE ? "−" : "";
  return h("li", { class: "row" },
    h("span", {}, named("ledger", String(found.kind), "ledger.other"),
      h("span", { class: "faint small block" }, found.createdAt ? moment(new Date(Number(found.createdAt.seconds) * 1000)) : "")),
    h("span", { class: "amount" }, h("bdi", { dir: "ltr" }, sign + count(amount)),
      h("span", { class: "faint small block" }, t("wallet.after", { n: Number(found.balanceAfterTokens) }))),
  );
}
