"""Rate limits: who is counted against what, and the refusal when it is used up.

A signed-in caller is counted by user, everyone else by address; so is every token that does not verify, apart from
the rest, so that who floods us with them shuts nobody else out. Paid calls have a limit by tier. Wrong passwords and
voucher codes are not counted here but by the rooms that know them, in the database that they need anyway: together for
all processes, whether or not they share a Redis. Here are counted names that turn out taken at sign-up, by address.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from server.caller import Caller, Role, Tier
from server.edge.address import subscriber
from server.edge.limits.windows import MemoryWindows, Rate, Windows
from server.edge.policy import Cost
from server.refusal import AlreadyExists, RateLimited, Refusal, TooManyAttempts
from server.telemetry import metrics

MINUTE: Final = 60.0
SIGN_IN_WINDOW: Final = 15 * MINUTE


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
        self._taken = Rate(rates.sign_in_per_15_minutes, SIGN_IN_WINDOW)

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

    async def count_bad_token(self, path: str, address: str) -> None:
        """Count a token that did not verify. Raises RateLimited when its address sent too many."""
        wait_seconds = await self._windows.hit(self._calls, ("token", subscriber(address)))
        if wait_seconds:
            raise _refusal(self._calls, path, "address", wait_seconds, RateLimited)

    @asynccontextmanager
    async def attempt(self, path: str, caller: Caller) -> AsyncIterator[None]:
        """Run something that can be guessed. Raises TooManyAttempts before the block runs, too."""
        key = ("taken", path, subscriber(caller.address))
        if caller.user_id is None:
            wait_seconds = await self._windows.test(self._taken, key)
            if wait_seconds:
                raise _refusal(self._taken, path, "address", wait_seconds, TooManyAttempts)
        try:
            yield
        except TooManyAttempts as refusal:
            scope = refusal.metadata.get("scope", "user" if caller.user_id else "address")
            metrics.record_rate_limit_rejection(scope, path)
            raise
        except AlreadyExists:
            if caller.user_id is None:
                await self._windows.hit(self._taken, key)
            raise


def _refusal(rate: Rate, path: str, scope: str, wait_seconds: float, kind: type[Refusal]) -> Refusal:
    metrics.record_rate_limit_rejection(scope, path)
    return kind(
        retry_after_seconds=wait_seconds, scope=scope, limit=rate.amount, window_seconds=int(rate.window_seconds)
    )
