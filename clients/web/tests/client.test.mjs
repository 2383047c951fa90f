// node --test: what is called again, under which id, and what is not.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { build } from "esbuild";

const contents = `export * from "./client.js"; export * from "./refusal.js"; export * from "./request_id.js";
  export { AuthService } from "../gen/bacmr/v1/auth_pb.js";`;
const { outputFiles } = await build({
  stdin: { contents, resolveDir: "src/client" },
  bundle: true,
  format: "esm",
  write: false,
});
const { AuthService, Client, Code, Refusal, once } = await import(
  `data:text/javascript;base64,${Buffer.from(outputFiles[0].text).toString("base64")}`
);

const OK = new Uint8Array([0, 0, 0, 0, 0, 128, 0, 0, 0, 15, ...new TextEncoder().encode("grpc-status: 0\r")]);
const page = new EventTarget();
globalThis.document = page;
globalThis.addEventListener = page.addEventListener.bind(page);
Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true });

let kept;
beforeEach(() => {
  kept = new Map();
  globalThis.localStorage = {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => kept.set(key, value),
    removeItem: (key) => kept.delete(key),
  };
});

/** A server that gives these statuses one after another. */
function served(...statuses) {
  const calls = [];
  globalThis.fetch = async (url) => {
    const status = statuses[calls.push(url) - 1];
    return status ? new Response("", { headers: { "grpc-status": String(status) } }) : new Response(OK);
  };
  return calls;
}

const jwks = (options) => new Client("", () => {}).unary(AuthService.method.getJwks, {}, options);

test("what a stopping server cancels is called again, like what it refuses", async () => {
  const calls = served(Code.CANCELLED, Code.UNAVAILABLE, 0);
  await jwks();
  assert.equal(calls.length, 3);
});

test("a refusal that stands is told at once", async () => {
  const calls = served(Code.UNKNOWN);
  await assert.rejects(jwks(), { code: Code.UNKNOWN });
  assert.equal(calls.length, 1);
});

test("what the person cancels is not called again", async () => {
  const calls = served(Code.CANCELLED, 0);
  const stop = new AbortController();
  const call = jwks({ signal: stop.signal });
  stop.abort();
  await assert.rejects(call, { code: Code.CANCELLED });
  assert.equal(calls.length, 1);
});

for (const [code, again] of [[Code.CANCELLED, true], [Code.UNAVAILABLE, true], [Code.UNKNOWN, false]]) {
  test(`after ${Code[code]} the same action has ${again ? "the same id" : "a new one"}`, async () => {
    const ids = [];
    const fail = async (id) => {
      ids.push(id);
      throw new Refusal(code, "UNKNOWN");
    };
    for (let turn = 0; turn < 2; turn++) await assert.rejects(once("ask", { question: "a" }, fail));
    await assert.rejects(once("ask", { question: "b" }, fail));
    assert.equal(ids[0] === ids[1], again);
    assert.notEqual(ids[1], ids[2]);
  });
}
