"""The other side of `benchmarks.streaming`, in a process of its own so that its CPU counts for nobody.

A model endpoint that streams TOKENS tokens at a steady pace, and the callers of a gRPC server: `GET /ask/PORT/METHOD/N`
makes N calls at a time and answers with how many tokens they read.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import uuid4

import grpc
import uvloop

from bacmr.v1 import retrieval_pb2, retrieval_pb2_grpc

TOKENS = 300
PAUSE_SECONDS = 0.005
QUESTION = "Qu'est-ce que la photosynthèse ?"
TOKEN = "bench"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_WORDS = ("La", " photo", "synthèse", " est", " le", " processus", " par", " lequel", " les", " plantes")


def _chunk(choice: dict[str, object], **more: object) -> bytes:
    """Return one server-sent event as OpenAI writes them, as a chunk of HTTP."""
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    line = f"data: {json.dumps(event | more)}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(line), line)


async def _tokens() -> AsyncIterator[bytes]:
    yield _HEAD
    for place in range(TOKENS):
        yield _chunk({"index": 0, "delta": {"content": _WORDS[place % len(_WORDS)]}, "finish_reason": None})
        await asyncio.sleep(PAUSE_SECONDS)
    usage = {"prompt_tokens": 1_000, "completion_tokens": TOKENS, "total_tokens": 1_000 + TOKENS}
    yield _chunk({"index": 0, "delta": {}, "finish_reason": "stop"}, usage=usage)
    yield b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


async def _ask(port: str, method: str, calls: int) -> int:
    """Make calls side by side and return how many tokens' worth of events came."""
    metadata = (("authorization", f"Bearer {TOKEN}"),)

    async def one(stub: "retrieval_pb2_grpc.RetrievalServiceAsyncStub") -> int:
        if method == "Ask":
            asked = retrieval_pb2.AskRequest(question=QUESTION, request_id=str(uuid4()))
            return sum([event.WhichOneof("event") == "delta" async for event in stub.Ask(asked, metadata=metadata)])
        resumed = retrieval_pb2.ResumeAskRequest(answer_id=str(uuid4()))
        return sum([event.WhichOneof("event") == "delta" async for event in stub.ResumeAsk(resumed)])

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = retrieval_pb2_grpc.RetrievalServiceStub(channel)
        return sum(await asyncio.gather(*(one(stub) for _ in range(calls))))


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(asyncio.CancelledError):
        await _replies(reader, writer)
    writer.close()


async def _replies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while request := await reader.readline():
        length = 0
        while (header := await reader.readline()).strip():
            name, _, value = header.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        await reader.readexactly(length)
        path = request.split()[1].decode()
        if path.startswith("/ask/"):
            port, method, calls = path.removeprefix("/ask/").split("/")
            body = str(await _ask(port, method, int(calls))).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        else:
            async for piece in _tokens():
                writer.write(piece)
        await writer.drain()


async def main() -> None:
    """Serve on a free port, which is printed, until standard input ends."""
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
