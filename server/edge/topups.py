"""Payments that providers of mobile money report: `POST /topups/{provider}`. The signature is the only right needed."""

import asyncio
from typing import Final, Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from server.refusal import DeadlineExceeded, Invalid

PATH: Final = "/topups"
SIGNATURE: Final = "x-bacmr-signature"
SENT_AT: Final = "x-bacmr-timestamp"
BODY_BYTES: Final = 16 * 1024
BODY_SECONDS: Final = 10.0


class ToppedUp(Protocol):
    """What became of a reported payment."""

    @property
    def credited(self) -> bool:
        """Say whether it was credited now; a payment that was known already changes nothing."""


class TopUpDoor(Protocol):
    """Takes callbacks. Raises a Refusal for one that does not prove its provider, or that cannot be credited."""

    async def accept_callback(self, provider: str, body: bytes, *, signature: str, sent_at: str) -> ToppedUp:
        """Credit the payment of a callback, given its raw body and the two headers."""


async def answer(door: TopUpDoor, request: Request) -> Response:
    """Hand a callback in and tell what became of it. Raises what the door raises, and for a body that is too much."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _body(request)
    except TimeoutError:
        raise DeadlineExceeded("The body did not come in time.") from None
    except ClientDisconnect:
        return Response(status_code=400)
    topped_up = await door.accept_callback(
        request.path_params["provider"],
        body,
        signature=request.headers.get(SIGNATURE, ""),
        sent_at=request.headers.get(SENT_AT, ""),
    )
    return JSONResponse({"credited": topped_up.credited})


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise Invalid(f"The body is longer than {BODY_BYTES} bytes.")
    return body
