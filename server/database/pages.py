"""Lists in pages: stable under inserts (the token names the last row's key) and bound to the filters of the list."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from server.database.once import fingerprint
from server.refusal import Invalid, Violation

T = TypeVar("T")
KeyPart = str | int | UUID | datetime

DEFAULT_SIZE = 50
MAX_SIZE = 200
VERSION = 1
FILTER_BYTES = 8
"""How much of the filters' hash a token carries."""
MAX_TOKEN_CHARACTERS = 1024
_READERS: dict[type, Callable[[str | int], KeyPart]] = {
    str: str,
    int: int,
    UUID: lambda value: UUID(str(value)),
    datetime: lambda value: datetime.fromisoformat(str(value)),
}


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list; an empty `next_page_token` says that it is the last part."""

    items: tuple[T, ...]
    next_page_token: str = ""


def page_size(requested: int) -> int:
    """Return how many rows to show: 0 means 50, more than 200 means 200. Negative sizes never get here."""
    return min(requested or DEFAULT_SIZE, MAX_SIZE)


def cut(rows: Sequence[T], size: int, filters: object, key: Callable[[T], Sequence[KeyPart]]) -> Page[T]:
    """Return the first `size` of rows that were read with a limit of `size + 1`.

    `key` gives the values that the list is ordered by, ending in a unique one; `filters` is all that selects rows.
    """
    shown = tuple(rows[:size])
    more = len(rows) > size and shown
    return Page(shown, _token(filters, key(shown[-1])) if more else "")


def position(page_token: str, filters: object, *kinds: type) -> tuple[KeyPart, ...]:
    """Return the key of the last row shown before, or () for the first page.

    `kinds` are the types of the key's parts. Raises Invalid for a token that is damaged or of another list.
    """
    if not page_token:
        return ()
    try:
        if len(page_token) > MAX_TOKEN_CHARACTERS:
            raise ValueError("longer than any token of ours")
        version, bound_to, parts = json.loads(base64.urlsafe_b64decode(page_token + "=" * (-len(page_token) % 4)))
        if version != VERSION or bound_to != _bound_to(filters):
            raise ValueError("a token of another list")
        return tuple(_READERS[kind](part) for kind, part in zip(kinds, parts, strict=True))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        violation = Violation("page_token", "must be the next_page_token of a call with the same filters", "page_token")
        raise Invalid(violations=[violation]) from None


def _token(filters: object, key: Sequence[KeyPart]) -> str:
    parts = [
        part if isinstance(part, int) else part.isoformat() if isinstance(part, datetime) else str(part) for part in key
    ]
    content = json.dumps([VERSION, _bound_to(filters), parts], separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def _bound_to(filters: object) -> str:
    return fingerprint(filters)[:FILTER_BYTES].hex()
