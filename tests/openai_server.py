"""A loopback server that speaks OpenAI's wire format and fails on command: the model's name says how (`m:429x2`).

Any call: `429` (Retry-After 1), `429x2` (twice, then well), `429slow` (Retry-After 100), `quota`, `500`, `401`,
`400`, `stall`, `badjson`, `html`, `empty`. Streams: `cut` (the socket dies), `cutclean` (ends without finish_reason),
`midstall`, `miderr`, `midbad`, `nousage`, `length`, `filtered`, `crlf`, `comments`, `split` (bytes come one by one),
`gap=0.05` (pause between pieces). Embeddings: `floats`, `short`, `nan`, `zero`, `fewer`, `shuffled`, `nodimensions`.
What a model says is `Wire.script`; what was asked is in `Wire.requests`.
"""

import asyncio
import base64
import hashlib
import json
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

PROVIDER_REQUEST_ID = "req_fake_1"
BREAK_AT = 3
"""Faults in the middle of a stream come before this piece (counted from 0)."""
STALL_SECONDS = 60
PROMPT_TOKENS = 11
Body = dict[str, Any]


def made_up(body: Body) -> str:
    """Say as many words as the request allows."""
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or 5
    return "".join(f"tok{number} " for number in range(limit))


@dataclass
class Wire:
    """What reached the server, and what its models say."""

    url: str
    script: Callable[[Body], str] = made_up
    requests: list[Body] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    open_streams: int = 0
    cancelled_streams: int = 0


@asynccontextmanager
async def serving() -> AsyncIterator[Wire]:
    """Serve on a free loopback port; `Wire.url` is what an OpenAI client takes as base_url."""
    listener = socket.create_server(("127.0.0.1", 0))
    wire = Wire(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
    routes = [
        Route("/v1/chat/completions", partial(_chat, wire), methods=["POST"]),
        Route("/v1/embeddings", partial(_embeddings, wire), methods=["POST"]),
    ]
    config = uvicorn.Config(Starlette(routes=routes), log_level="critical", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.005)
    try:
        yield wire
    finally:
        server.should_exit = server.force_exit = True
        await running
        listener.close()


def _mode(body: Body) -> str:
    return str(body["model"]).partition(":")[2]


async def _taken(wire: Wire, request: Request) -> tuple[Body, Response | None]:
    """Record a request; return its body and the failure that its model commands, if any."""
    body = await request.json()
    wire.requests.append(body)
    wire.headers.append(dict(request.headers))
    wire.hits[body["model"]] += 1
    mode = _mode(body)
    if mode == "stall":
        await asyncio.sleep(STALL_SECONDS)
    name, _, times = mode.partition("x")
    if times.isdigit() and wire.hits[body["model"]] > int(times):
        return body, None
    return body, _failure(name if times.isdigit() else mode)


def _failure(mode: str) -> Response | None:
    match mode:
        case "429":
            return _error(429, "rate_limit_exceeded", {"retry-after": "1"})
        case "429slow":
            return _error(429, "rate_limit_exceeded", {"retry-after": "100"})
        case "quota":
            return _error(429, "insufficient_quota")
        case "500":
            return _error(500, "server_error")
        case "401":
            return _error(401, "invalid_api_key")
        case "400":
            return _error(400, "invalid_request_error")
        case "badjson":
            return Response(b'{"id": "x", "choices": [', media_type="application/json")
        case "html":
            return Response(b"<html>gateway</html>", media_type="text/html")
        case "empty":
            return JSONResponse({"object": "chat.completion"})
    return None


def _error(status: int, code: str, headers: dict[str, str] | None = None) -> Response:
    error = {"message": f"{code} SECRET-IN-MESSAGE", "type": code, "code": code, "param": None}
    return JSONResponse({"error": error}, status, headers)


async def _chat(wire: Wire, request: Request) -> Response:
    body, failure = await _taken(wire, request)
    if failure:
        return failure
    text, mode = wire.script(body), _mode(body)
    pieces = [piece + " " for piece in text.split(" ")[:-1]] + [text.split(" ")[-1]]
    pieces = [piece for piece in pieces if piece]
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": len(pieces)}
    headers = {"x-request-id": PROVIDER_REQUEST_ID}
    if not body.get("stream"):
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        reply = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
        return JSONResponse(reply | {"usage": usage}, headers=headers)
    frames = _frames(body, mode, pieces, usage)
    if mode == "split":
        frames = _one_by_one(frames)
    return StreamingResponse(_watched(wire, frames), media_type="text/event-stream", headers=headers)


async def _watched(wire: Wire, frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    wire.open_streams += 1
    try:
        async for frame in frames:
            yield frame
    except (asyncio.CancelledError, GeneratorExit):
        wire.cancelled_streams += 1
        raise
    finally:
        wire.open_streams -= 1


async def _frames(body: Body, mode: str, pieces: list[str], usage: dict[str, int]) -> AsyncIterator[bytes]:
    end = b"\r\n\r\n" if mode == "crlf" else b"\n\n"
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}

    def frame(**fields: object) -> bytes:
        return b"data: " + json.dumps(base | fields, ensure_ascii=False).encode() + end

    for number, piece in enumerate(pieces):
        if number == BREAK_AT:
            match mode:
                case "cut":
                    raise ConnectionResetError
                case "cutclean":
                    return
                case "midstall":
                    await asyncio.sleep(STALL_SECONDS)
                case "miderr":
                    yield b'data: {"error": {"message": "overloaded", "type": "server_error"}}' + end
                    return
                case "midbad":
                    yield b"data: {not json" + end
        if mode == "comments":
            yield b": keep-alive" + end + b"event: message\n"
        if mode.startswith("gap="):
            await asyncio.sleep(float(mode[4:]))
        yield frame(choices=[{"index": 0, "delta": {"content": piece}, "finish_reason": None}])
    reason = {"length": "length", "filtered": "content_filter"}.get(mode, "stop")
    yield frame(choices=[{"index": 0, "delta": {}, "finish_reason": reason}])
    if (body.get("stream_options") or {}).get("include_usage") and mode != "nousage":
        yield frame(choices=[], usage=usage)
    yield b"data: [DONE]" + end


async def _one_by_one(frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for frame in frames:
        for byte in frame:
            yield bytes([byte])


async def _embeddings(wire: Wire, request: Request) -> Response:
    body, failure = await _taken(wire, request)
    mode = _mode(body)
    if mode == "nodimensions" and "dimensions" in body:
        failure = _error(400, "unsupported_parameter")
    if failure:
        return failure
    dimensions = int(body.get("dimensions") or 64) - (mode == "short")
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(mode, text, dimensions)}
        for index, text in enumerate(body["input"])
    ]
    if body.get("encoding_format") == "base64" and mode != "floats":
        for item in data:
            item["embedding"] = base64.b64encode(struct.pack(f"<{dimensions}f", *item["embedding"])).decode()
    if mode == "fewer":
        data.pop()
    if mode == "shuffled":
        data.reverse()
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    return JSONResponse({"object": "list", "model": body["model"], "data": data, "usage": usage})


def _vector(mode: str, text: str, dimensions: int) -> list[float]:
    """Return numbers made from the text: the same for the same text, not of length 1."""
    if mode in ("nan", "zero"):
        return [float("nan") if mode == "nan" else 0.0] * dimensions
    blocks = (hashlib.sha256(f"{number}:{text}".encode()).digest() for number in range(dimensions // 32 + 1))
    return [byte / 127.5 - 1 for block in blocks for byte in block][:dimensions]
