"""What the edge reads from a call's metadata: request id, bearer token, origin. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

from server.refusal import NotSignedIn

REQUEST_ID: Final = "x-request-id"
WEB: Final = "x-grpc-web"
"""Set by browsers' clients, by our pass-through and by Envoy: the call came from the open web."""
TOKEN_LENGTH_MAX: Final = 8 * 1024
"""Longer ones are nobody's; they are refused before anything is decoded or hashed."""
_SCHEME: Final = "bearer "
_UUID_LENGTH: Final = 36
_UUID_DIGITS: Final = 32

Metadata = Iterable[tuple[str, str | bytes]]


@dataclass(slots=True)
class Head:
    """The parts of a call's metadata that the edge uses, as they came."""

    request_id: str = ""
    authorization: str | bytes | None = None
    authorizations: int = 0
    forwarded_for: str = ""
    web: bool = False
    traceparent: str = ""


def read(metadata: Metadata) -> Head:
    """Pick the parts out of a call's metadata in one pass."""
    head = Head()
    for key, value in metadata:
        if key == "authorization":
            head.authorization = value
            head.authorizations += 1
        elif key == REQUEST_ID:
            head.request_id = str(value)
        elif key == "x-forwarded-for":
            head.forwarded_for = f"{head.forwarded_for},{value!s}" if head.forwarded_for else str(value)
        elif key == WEB:
            head.web = True
        elif key == "traceparent":
            head.traceparent = str(value)
    return head


def request_id(given: str) -> UUID:
    """Return the caller's request id when it is a UUID in its canonical form, else a new one."""
    return request_id_and_text(given)[0]


def request_id_and_text(given: str) -> tuple[UUID, str]:
    """Return `request_id(given)` with its text, which is what was given but for the case of its letters."""
    if len(given) == _UUID_LENGTH and given[8] == given[13] == given[18] == given[23] == "-":
        digits = given.replace("-", "")
        # `int` alone would take underscores and the digits of other scripts as well.
        if digits.isalnum() and digits.isascii():
            try:
                number = int(digits, 16)
            except ValueError:
                number = 0
            if number and len(digits) == _UUID_DIGITS:
                return UUID(int=number), given.lower()
    made = uuid4()
    return made, str(made)


def bearer(head: Head) -> str:
    """Return the token of the one `authorization: Bearer …`. Raises NotSignedIn when there is none, or several."""
    value = head.authorization
    if head.authorizations != 1 or not isinstance(value, str) or len(value) > TOKEN_LENGTH_MAX:
        raise NotSignedIn
    if value[: len(_SCHEME)].lower() != _SCHEME:
        raise NotSignedIn
    return value[len(_SCHEME) :].strip()
