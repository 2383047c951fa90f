// Runs inside the browser: the same calls with both official clients. `window.check(base, token)` returns what it saw.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import grpcweb from "grpc-web";
import { AdminService } from "./.build/gen/bacmr/v1/admin_pb.js";
import { AskEventSchema, AskRequestSchema, RetrievalService } from "./.build/gen/bacmr/v1/retrieval_pb.js";
import {
  GetBalanceRequestSchema,
  GetBalanceResponseSchema,
  WalletService,
} from "./.build/gen/bacmr/v1/wallet_pb.js";

const ASK = "/bacmr.v1.RetrievalService/Ask";
const BALANCE = "/bacmr.v1.WalletService/GetBalance";

async function refusal(promise) {
  try {
    await promise;
    return { code: "OK" };
  } catch (error) {
    const refused = ConnectError.from(error);
    return {
      code: Code[refused.code],
      details: refused.details.map((detail) => detail.type),
      requestId: refused.metadata.get("x-request-id"),
    };
  }
}

async function read(stream, onMessage = () => {}) {
  const texts = [];
  const times = [];
  for await (const event of stream) {
    texts.push(event.event.value.text);
    times.push(performance.now());
    onMessage(texts.length);
  }
  return { texts, times };
}

async function connect(base, token) {
  const transport = createGrpcWebTransport({ baseUrl: base });
  const wallet = createClient(WalletService, transport);
  const retrieval = createClient(RetrievalService, transport);
  const headers = { authorization: `Bearer ${token}` };
  const ask = (question, options) =>
    retrieval.ask({ question, requestId: crypto.randomUUID() }, { headers, ...options });

  let header;
  let trailer;
  const mine = crypto.randomUUID();
  const balance = await wallet.getBalance(
    {},
    {
      headers: { ...headers, "x-request-id": mine },
      onHeader: (found) => (header = found.get("x-request-id")),
      onTrailer: (found) => (trailer = found.get("x-request-id")),
    },
  );
  const stop = new AbortController();
  const cut = await refusal(read(ask("endless", { signal: stop.signal }), (count) => count === 3 && stop.abort()));
  return {
    available: Number(balance.availableTokens),
    requestId: { mine, header, trailer },
    stream: await read(ask("three")),
    noToken: await refusal(wallet.getBalance({})),
    invalid: await refusal(wallet.getBalance({ userId: "x" }, { headers })),
    refusedStream: await refusal(read(ask("refused"))),
    deadline: await refusal(read(ask("endless", { timeoutMs: 300 }))),
    cut,
    admin: await refusal(createClient(AdminService, transport).getServerInfo({}, { headers })),
    internal: await refusal(
      wallet.release({ reservationId: crypto.randomUUID(), requestId: crypto.randomUUID() }, { headers }),
    ),
  };
}

function descriptor(path, kind, request, response) {
  return new grpcweb.MethodDescriptor(
    path,
    kind,
    Object,
    Object,
    (message) => toBinary(request, message),
    (bytes) => fromBinary(response, bytes),
  );
}

async function official(base, token) {
  const client = new grpcweb.GrpcWebClientBase({ format: "text" });
  const metadata = { authorization: `Bearer ${token}` };
  const unary = descriptor(BALANCE, grpcweb.MethodType.UNARY, GetBalanceRequestSchema, GetBalanceResponseSchema);
  const streaming = descriptor(ASK, grpcweb.MethodType.SERVER_STREAMING, AskRequestSchema, AskEventSchema);
  const balance = await new Promise((resolve, reject) => {
    client.rpcCall(base + BALANCE, create(GetBalanceRequestSchema), metadata, unary, (error, answer) =>
      error ? reject(error) : resolve(Number(answer.availableTokens)),
    );
  });
  const noToken = await new Promise((resolve) => {
    client.rpcCall(base + BALANCE, create(GetBalanceRequestSchema), {}, unary, (error) => resolve(error?.code));
  });
  const question = create(AskRequestSchema, { question: "three", requestId: crypto.randomUUID() });
  const stream = await new Promise((resolve, reject) => {
    const texts = [];
    const times = [];
    const call = client.serverStreaming(base + ASK, question, metadata, streaming);
    call.on("data", (event) => {
      texts.push(event.event.value.text);
      times.push(performance.now());
    });
    call.on("error", reject);
    call.on("end", () => resolve({ texts, times }));
  });
  return { balance, noToken, stream };
}

window.check = async (base, token) => ({
  connect: await connect(base, token),
  official: await official(base, token),
});
