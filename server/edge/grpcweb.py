"""gRPC-Web (binary and text framing) in front of the gRPC port: bytes of any unary or server-streaming method.

It knows no message: frames go through as they are, so every rule of the edge (tokens, rights, limits, validation) is
the one of the gRPC port. A call that comes this way is marked, and internal methods are refused for it there.
"""

import asyncio
import base64
import binascii
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final
from urllib.parse import quote

import grpc
from starlette.types import Message, Receive, Scope, Send

from server.edge import heads, status
from server.edge.origins import Origins
from server.refusal import QuotaExceeded, Refusal, Unreadable

CONTENT_TYPE: Final = "application/grpc-web"
TEXT: Final = "application/grpc-web-text"
FORWARDED: Final = frozenset({"authorization", heads.REQUEST_ID, "traceparent"})
"""What of a request's headers becomes metadata; all else is the transport's, or nobody's."""
MAX_METHODS: Final = 1_024
_PREFIX: Final = struct.Struct(">BI")
_TRAILERS: Final = 0x80
_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT_DIGITS: Final = 8

Metadata = list[tuple[str, str | bytes]]


class GrpcWeb:
    """The ASGI application behind `/package.Service/Method`."""

    def __init__(self, channel: Callable[[], grpc.aio.Channel], origins: Origins, message_bytes: int) -> None:
        """Pass calls on to the channel, which exists once the gRPC port is up."""
        self._channel = channel
        self._origins = origins
        self._message_bytes = message_bytes
        self._calls: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = [(name.decode("latin1"), value.decode("latin1")) for name, value in scope["headers"]]
        first = dict(reversed(headers))
        origin = first.get("origin", "")
        if scope["method"] == "OPTIONS":
            await _plain(send, 204, self._origins.preflight_headers(origin, "POST"))
        elif not self._origins.admits(origin, first.get("host", "")):
            await _plain(send, 403, [])
        elif scope["method"] != "POST" or not first.get("content-type", "").startswith(CONTENT_TYPE):
            await _plain(send, 415, self._origins.answer_headers(origin))
        else:
            answer = _Answer(send, first["content-type"].startswith(TEXT), self._origins.answer_headers(origin))
            await self._pass_on(scope, headers, first, receive, answer)

    async def _pass_on(
        self, scope: Scope, headers: list[tuple[str, str]], first: dict[str, str], receive: Receive, answer: "_Answer"
    ) -> None:
        try:
            message = await self._read(receive, answer.text)
        except ConnectionError:
            return
        except Refusal as refusal:
            request_id = heads.request_id(first.get(heads.REQUEST_ID, ""))
            said = status.status_of(refusal, request_id)
            await answer.end(status.code_of(refusal), said.message, status.trailers(said, request_id))
            return
        call = self._method(scope["path"])(
            message,
            metadata=_metadata(headers, scope["client"]),
            timeout=timeout_seconds(first.get("grpc-timeout", "")),
        )
        watcher = asyncio.create_task(_hang_up(receive, call))
        try:
            await _relay(call, answer)
        finally:
            watcher.cancel()
            call.cancel()

    async def _read(self, receive: Receive, text: bool) -> bytes:
        """Return the one message of a request. Raises ConnectionError when its sender leaves, or a Refusal."""
        limit = self._message_bytes + _PREFIX.size
        body = bytearray()
        async for chunk in _body(receive):
            body += chunk
            if len(body) > (limit * 4 // 3 + 4 if text else limit):
                raise QuotaExceeded("The message is too large.")
        return unframed(bytes(body), text)

    def _method(self, path: str) -> Any:
        call = self._calls.get(path)
        if call is None:
            if len(self._calls) >= MAX_METHODS:
                self._calls.clear()
            call = self._calls[path] = self._channel().unary_stream(path)
        return call


class _Answer:
    """The response: headers with the first frame, then frames, then the trailers as the last frame."""

    def __init__(self, send: Send, text: bool, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self.text = text
        self._send = send
        self._headers = headers
        self._begun = False

    async def begin(self, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        if self._begun:
            return
        self._begun = True
        kind = f"{TEXT if self.text else CONTENT_TYPE}+proto"
        headers = [
            (b"content-type", kind.encode()),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
            *((name.encode(), _text(value).encode("latin1")) for name, value in metadata),
            *self._headers,
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def frame(self, payload: bytes, flag: int = 0, more: bool = True) -> None:
        framed = _PREFIX.pack(flag, len(payload)) + payload
        body = base64.b64encode(framed) if self.text else framed
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def end(self, code: grpc.StatusCode, details: str, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        await self.begin(())
        await self.frame(trailers(code, details, metadata), _TRAILERS, more=False)


def unframed(body: bytes, text: bool) -> bytes:
    """Return the one uncompressed message that a request's body frames. Raises Unreadable for anything else."""
    if text:
        try:
            body = base64.b64decode(body, validate=True)
        except binascii.Error:
            raise Unreadable from None
    if len(body) < _PREFIX.size:
        raise Unreadable
    flag, size = _PREFIX.unpack_from(body)
    if flag != 0 or len(body) != _PREFIX.size + size:
        raise Unreadable
    return body[_PREFIX.size :]


def trailers(code: grpc.StatusCode, details: str, metadata: Sequence[tuple[str, str | bytes]]) -> bytes:
    """Return a status and its metadata as the payload of the last frame: HTTP/1 header lines."""
    lines = [f"grpc-status: {code.value[0]}"]
    if details:
        lines.append(f"grpc-message: {quote(details, safe=_MESSAGE_SAFE)}")
    lines += [f"{name}: {_text(value)}" for name, value in metadata]
    return "".join(f"{line}\r\n" for line in lines).encode("latin1", "replace")


def timeout_seconds(value: str) -> float | None:
    """Return a `grpc-timeout` header in seconds; None when there is none, or none that means anything."""
    amount, unit = value[:-1], value[-1:]
    if unit not in _UNITS or not 0 < len(amount) <= _TIMEOUT_DIGITS or not (amount.isascii() and amount.isdigit()):
        return None
    return int(amount) * _UNITS[unit]


_MESSAGE_SAFE: Final = " !#$&'()*+,/:;=?@[]~"


def _text(value: str | bytes) -> str:
    return base64.b64encode(value).rstrip(b"=").decode() if isinstance(value, bytes) else value


def _metadata(headers: list[tuple[str, str]], client: tuple[str, int] | None) -> Metadata:
    hops = [value for name, value in headers if name == "x-forwarded-for"]
    if client is not None:
        hops.append(client[0])
    metadata: Metadata = [(name, value) for name, value in headers if name in FORWARDED]
    return [*metadata, ("x-forwarded-for", ",".join(hops)), (heads.WEB, "1")]


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        part: Message = await receive()
        if part["type"] == "http.disconnect":
            raise ConnectionError
        more = part.get("more_body", False)
        yield part.get("body", b"")


async def _hang_up(receive: Receive, call: Any) -> None:
    """Cancel the call when the browser leaves, so that the handler hears of it."""
    while (await receive())["type"] != "http.disconnect":
        pass
    call.cancel()


async def _relay(call: Any, answer: _Answer) -> None:
    try:
        await answer.begin(await call.initial_metadata())
        async for message in call:
            await answer.frame(message)
    except grpc.aio.AioRpcError:
        pass  # its status is the answer, below
    except asyncio.CancelledError:
        if call.cancelled():
            return
        raise
    await answer.end(await call.code(), await call.details(), await call.trailing_metadata())


async def _plain(send: Send, code: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": code, "headers": list(headers)})
    await send({"type": "http.response.body"})
