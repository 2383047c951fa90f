"""Signed addresses for stores that cannot sign themselves (a folder, memory): one HMAC over all a ticket allows."""

import hashlib
import hmac
import os
import re
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from server import refusal
from server.blobs.port import SignedRequest

PATH = "/blobs/"
"""Where the HTTP port serves tickets, followed by the key."""
_KEY = re.compile(r"(?!.*//)(?!(?:.*/)?\.{1,2}(?:/|$))[A-Za-z0-9._-][A-Za-z0-9._/-]{0,510}(?<!/)")
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a verified ticket allows: bytes of this type up to `max_bytes` for PUT, anything stored for GET."""

    max_bytes: int
    content_type: str


def check_key(key: str) -> None:
    """Refuse (Invalid) a key that a store could read as another path."""
    if not _KEY.fullmatch(key):
        raise refusal.Invalid(
            violations=[refusal.Violation("key", "must be plain names divided by slashes", "blob_key")]
        )


def secret_from(file: Path) -> bytes:
    """Return the signing secret kept in `file`, making it (readable by its owner only) when it is missing."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file.read_bytes()
    with os.fdopen(descriptor, "wb") as stream:
        secret = os.urandom(_SECRET_BYTES)
        stream.write(secret)
    return secret


class Tickets:
    """Makes and checks tickets. `base_url` is the address of the HTTP port as clients reach it."""

    def __init__(self, secret: bytes, base_url: str, *, now: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._base_url = base_url.rstrip("/")
        self._now = now

    def sign(
        self, method: str, key: str, *, ttl_seconds: int, max_bytes: int = 0, content_type: str = ""
    ) -> SignedRequest:
        """Return a request that works without credentials until it expires."""
        check_key(key)
        expires_at = int(self._now()) + ttl_seconds
        fields = {"expires": str(expires_at), "max": str(max_bytes), "type": content_type}
        fields["signature"] = self._signature(method, key, fields)
        return SignedRequest(
            url=f"{self._base_url}{PATH}{urllib.parse.quote(key)}?{urllib.parse.urlencode(fields)}",
            method=method,
            headers={"content-type": content_type} if content_type else {},
            expires_at=datetime.fromtimestamp(expires_at, UTC),
        )

    def verify(self, method: str, key: str, query: Mapping[str, str]) -> Allowance:
        """Return what the ticket in a URL's query allows. Raises NotSignedIn when it was not made here or is over."""
        expected = self._signature(method, key, query)
        if not hmac.compare_digest(query.get("signature", "").encode(), expected.encode()):
            raise refusal.NotSignedIn("The ticket is not valid for this request.")
        if int(query["expires"]) < self._now():
            raise refusal.NotSignedIn("The ticket has expired; ask for a new one.")
        return Allowance(int(query["max"]), query.get("type", ""))

    def _signature(self, method: str, key: str, query: Mapping[str, str]) -> str:
        parts = [method, key, *(query.get(name, "") for name in ("expires", "max", "type"))]
        text = "".join(f"{len(part)}:{part}" for part in parts)  # lengths keep the parts from running into each other
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
