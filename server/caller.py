"""Who is calling: one immutable value, carried by a context variable through every room."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID, uuid4

NO_REQUEST = UUID(int=0)
"""Stands where nothing was asked: outside of any call."""


class Role(StrEnum):
    """What a caller may do. `ANYONE` is a caller without a token, `SERVICE` an internal backend or job."""

    ANYONE = "anyone"
    STUDENT = "student"
    TEACHER = "teacher"
    ADMIN = "admin"
    SERVICE = "service"


class Tier(StrEnum):
    """What a caller paid for; decides result caps and rate limits."""

    FREE = "free"
    STANDARD = "standard"
    PREMIUM = "premium"


@dataclass(frozen=True, slots=True)
class Caller:
    """The identity behind a call and the id that correlates everything it causes."""

    user_id: UUID | None = None
    role: Role = Role.ANYONE
    tier: Tier = Tier.FREE
    request_id: UUID = NO_REQUEST
    address: str = ""
    deadline_at: float | None = None
    """Event loop time by which the call must be answered; None for background work."""
    session_id: UUID | None = None
    """The signed-in device (refresh token family), when our own token named one."""


_CURRENT: ContextVar[Caller | None] = ContextVar("caller", default=None)
_NOBODY = Caller()


def current() -> Caller:
    """Return the caller of the running task; nobody (role ANYONE) outside of any call."""
    return _CURRENT.get() or _NOBODY


def become(caller: Caller) -> None:
    """Let the running task act for `caller` to its end. For the edge, where every call runs in a task of its own."""
    _CURRENT.set(caller)


@contextmanager
def acting_as(caller: Caller) -> Iterator[Caller]:
    """Run a block on behalf of `caller`."""
    token = _CURRENT.set(caller)
    try:
        yield caller
    finally:
        _CURRENT.reset(token)


def system(request_id: UUID | None = None) -> Caller:
    """Return the caller that background jobs act as: role SERVICE, no user, a request id of its own."""
    return Caller(role=Role.SERVICE, tier=Tier.PREMIUM, request_id=request_id or uuid4())


def detached(caller: Caller) -> Caller:
    """Return `caller` without its deadline, for work that outlives the call (settlement, answers)."""
    return replace(caller, deadline_at=None)
