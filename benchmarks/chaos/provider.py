"""The model that the fault run asks and kills: `python -m benchmarks.chaos.provider PORT`. Speaks OpenAI's protocol."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

WORDS = 30
PAUSE_SECONDS = 0.04
TEXT = " ".join(f"mot{number}" for number in range(WORDS)) + " [1]."
USAGE = {"prompt_tokens": 400, "completion_tokens": WORDS, "total_tokens": 400 + WORDS}


async def chat(request: Request) -> Response:
    """Answer with TEXT, word by word when a stream is asked for."""
    if (await request.json()).get("stream"):
        return StreamingResponse(_words(), media_type="text/event-stream")
    message = {"role": "assistant", "content": TEXT}
    return JSONResponse(_reply("chat.completion", {"finish_reason": "stop", "message": message}) | {"usage": USAGE})


async def _words() -> AsyncIterator[bytes]:
    for word in TEXT.split():
        yield _event(_reply("chat.completion.chunk", {"delta": {"content": word + " "}, "finish_reason": None}))
        await asyncio.sleep(PAUSE_SECONDS)
    yield _event(_reply("chat.completion.chunk", {"delta": {}, "finish_reason": "stop"}))
    yield _event(_reply("chat.completion.chunk", None) | {"usage": USAGE})
    yield b"data: [DONE]\n\n"


def _reply(kind: str, choice: dict[str, object] | None) -> dict[str, object]:
    choices = [] if choice is None else [{"index": 0, **choice}]
    return {"id": "c", "object": kind, "created": 1, "model": "m", "choices": choices}


def _event(reply: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(reply).encode() + b"\n\n"


if __name__ == "__main__":
    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="critical")
