"""Which web pages may call the HTTP port: those of its own origin and of an allow-list (CORS). Pure."""

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

Headers = list[tuple[bytes, bytes]]
REQUEST_HEADERS: Final = (
    "authorization,connect-protocol-version,connect-timeout-ms,content-type,grpc-timeout,traceparent,x-grpc-web,"
    "x-request-id,x-user-agent"
)
RESPONSE_HEADERS: Final = "grpc-message,grpc-status,grpc-status-details-bin,x-request-id"
PREFLIGHT_SECONDS: Final = 86_400


class Origins:
    """The origins that may call, as in `https://app.example.org`."""

    def __init__(self, allowed: Collection[str] = ()) -> None:
        """Take the allow-list; there is no wildcard."""
        self.allowed = frozenset(origin.rstrip("/") for origin in allowed)

    def admits(self, origin: str, host: str) -> bool:
        """Say whether a page of `origin` may call a port reached as `host`; callers that are no pages send none."""
        return not origin or origin in self.allowed or urlsplit(origin).netloc == host

    def answer_headers(self, origin: str) -> Headers:
        """Return what lets a page of an allowed origin read an answer."""
        if origin not in self.allowed:
            return []
        return [
            (b"access-control-allow-origin", origin.encode()),
            (b"access-control-expose-headers", RESPONSE_HEADERS.encode()),
            (b"vary", b"origin"),
        ]

    def preflight_headers(self, origin: str, methods: str) -> Headers:
        """Return what answers a browser that asks before it calls."""
        if origin not in self.allowed:
            return []
        return [
            *self.answer_headers(origin),
            (b"access-control-allow-methods", methods.encode()),
            (b"access-control-allow-headers", REQUEST_HEADERS.encode()),
            (b"access-control-max-age", str(PREFLIGHT_SECONDS).encode()),
        ]
