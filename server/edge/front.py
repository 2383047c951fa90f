"""The first to see a request of the HTTP port: methods go to gRPC-Web, the rest to the pages."""

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.edge import heads
from server.edge.origins import Origins

LEAST_ERROR: Final = 400
SERVICES: Final = ("/bacmr.", "/grpc.health.")
"""Paths that are methods; all others are the web's."""
CONTENT_POLICY: Final = (
    "default-src 'self'; connect-src 'self'{upload_origin}; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types bacmr"
)
"""A page's scripts come from here, make no HTML out of text, and send files nowhere but to the blob store."""
SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Front:
    """Sends methods to gRPC-Web and the rest to the pages, whose answers get the headers of security and CORS, and
    errors a request id.

    Once `closing`, every answer is the last one of its connection. `on_their_way` are the calls whose answer has not
    begun: gRPC may not know of them yet.
    """

    def __init__(self, web: ASGIApp | None, pages: ASGIApp, origins: Origins, upload_origin: str) -> None:
        self._web = web
        self._pages = pages
        self._origins = origins
        policy = CONTENT_POLICY.format(upload_origin=f" {upload_origin}" if upload_origin else "")
        self._headers = [(b"content-security-policy", policy.encode()), *SECURITY_HEADERS]
        self.closing = False
        self.on_their_way: set[object] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_farewell(message: Message) -> None:
            if message["type"] == "http.response.start" and self.closing:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        if scope["type"] == "http":
            await self._answer(scope, receive, with_farewell)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._web is not None and scope["path"].startswith(SERVICES):
            await self._call(self._web, scope, receive, send)
            return
        asked = Headers(scope=scope)
        origin = asked.get("origin", "")
        if scope["method"] == "OPTIONS":
            headers = self._origins.preflight_headers(origin, "GET, PUT")
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body"})
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    *self._headers,
                    *self._origins.answer_headers(origin),
                ]
                if message["status"] >= LEAST_ERROR:
                    request_id = str(heads.request_id(asked.get(heads.REQUEST_ID, "")))
                    MutableHeaders(scope=message).setdefault(heads.REQUEST_ID, request_id)
            await send(message)

        await self._pages(scope, receive, with_headers)

    async def _call(self, web: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        call = object()
        self.on_their_way.add(call)

        async def noting(message: Message) -> None:
            self.on_their_way.discard(call)
            await send(message)

        try:
            await web(scope, receive, noting)
        finally:
            self.on_their_way.discard(call)
