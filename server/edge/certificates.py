"""Client certificates on the HTTP port (mTLS): asked of every connection, demanded for all but the probes.

Kubernetes and load balancers probe without one. TLS therefore lets connections in that show none, and verifies those
that do; what a connection without one may ask for is decided here.
"""

import asyncio
from typing import Final

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

PROBES: Final = frozenset({"/healthz", "/readyz"})
_SHOWN: Final = "client_certificate"


class CertifiedProtocol(H11Protocol):
    """Notes with each request whether its connection showed a certificate."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note."""
        super().connection_made(transport)  # type: ignore[arg-type] # narrower there than its base class's
        self.app_state = {**self.app_state, _SHOWN: bool(transport.get_extra_info("peercert"))}


class Certified:
    """The application for connections with a certificate; for others, its probes."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before `app`, served by CertifiedProtocol."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and not scope["state"][_SHOWN] and scope["path"] not in PROBES:
            await PlainTextResponse("Show a client certificate.\n", 403)(scope, receive, send)
            return
        await self._app(scope, receive, send)
