"""Rate limits: who is counted against what, and the refusal when it is used up.

A signed-in caller is counted by user, everyone else by address. Paid calls have a limit by tier. Sign-in attempts are
counted by account, whoever makes them; refused attempts also by address, so that a school behind one address can sign
in all its pupils but nobody can guess from there.
"""

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import Message

from server.caller import Caller, Role, Tier
from server.edge.address import subscriber
from server.edge.limits.windows import MemoryWindows, Rate, Windows
from server.edge.policy import Cost
from server.refusal import Kind, RateLimited, Refusal, TooManyAttempts
from server.telemetry import metrics

MINUTE: Final = 60.0
SIGN_IN_WINDOW: Final = 15 * MINUTE
_ACCOUNT_FIELDS: Final = ("email", "phone")
_MISSES: Final = frozenset({Kind.UNAUTHENTICATED, Kind.NOT_FOUND, Kind.ALREADY_EXISTS, Kind.PRECONDITION})
"""What a wrong guess looks like; a request that is not even valid is none."""


@dataclass(frozen=True, slots=True)
class Rates:
    """How often a caller may call."""

    paid_per_minute: Mapping[Tier, int] = field(
        default_factory=lambda: {Tier.FREE: 10, Tier.STANDARD: 30, Tier.PREMIUM: 60}
    )
    calls_per_minute: int = 600
    sign_in_per_15_minutes: int = 5


class Limits:
    """The limits of every call. Raises RateLimited, or TooManyAttempts for sign-in attempts."""

    def __init__(self, rates: Rates, windows: Windows) -> None:
        """Count in `windows`, which several processes may share."""
        self._windows = windows
        self._calls = Rate(rates.calls_per_minute, MINUTE)
        self._paid = {tier: Rate(amount, MINUTE) for tier, amount in rates.paid_per_minute.items()}
        self._sign_in = Rate(rates.sign_in_per_15_minutes, SIGN_IN_WINDOW)

    async def count(self, path: str, cost: Cost, caller: Caller) -> None:
        """Count a call. Probes and internal backends (role service) are not limited."""
        if cost is Cost.FREE or caller.role is Role.SERVICE:
            return
        rate, group = (self._paid[caller.tier], "paid") if cost is Cost.PAID else (self._calls, "calls")
        user_id = caller.user_id
        key = (group, user_id.int) if user_id else (group, subscriber(caller.address))
        windows = self._windows
        # Every call comes by here: memory is asked without the detour over the event loop.
        wait_seconds = windows.take(rate, key) if type(windows) is MemoryWindows else await windows.hit(rate, key)
        if wait_seconds:
            raise _refusal(rate, path, "user" if user_id else "address", wait_seconds, RateLimited)

    @asynccontextmanager
    async def attempt(self, path: str, caller: Caller, request: Message | None) -> AsyncIterator[None]:
        """Run a sign-in attempt, a password change or a voucher: things that can be guessed."""
        if caller.user_id is None:
            account = account_of(request)
            if account:
                wait_seconds = await self._windows.hit(self._sign_in, ("account", path, account))
                if wait_seconds:
                    raise _refusal(self._sign_in, path, "account", wait_seconds, TooManyAttempts)
            scope, key = "address", ("guess", subscriber(caller.address), "")
        else:
            scope, key = "user", ("guess", str(caller.user_id), path)
        wait_seconds = await self._windows.test(self._sign_in, key)
        if wait_seconds:
            raise _refusal(self._sign_in, path, scope, wait_seconds, TooManyAttempts)
        try:
            yield
        except Refusal as refusal:
            if refusal.kind in _MISSES:
                await self._windows.hit(self._sign_in, key)
            raise


def account_of(request: Message | None) -> str:
    """Return a digest of the account that a request names by e-mail or phone; empty when it names none."""
    for name in _ACCOUNT_FIELDS:
        value = getattr(request, name, "")
        if value and isinstance(value, str):
            return hashlib.sha256(value.strip().casefold().encode()).hexdigest()
    return ""


def _refusal(rate: Rate, path: str, scope: str, wait_seconds: float, kind: type[Refusal]) -> Refusal:
    metrics.record_rate_limit_rejection(scope, path)
    return kind(
        retry_after_seconds=wait_seconds, scope=scope, limit=rate.amount, window_seconds=int(rate.window_seconds)
    )
