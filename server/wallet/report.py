"""What reconciliation and verification say."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Check:
    """One named check; `problems` counts what it found, `detail` says it in words."""

    name: str
    ok: bool
    detail: str
    problems: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one wallet or of all. For all, `accounts` is the net of every account and `head` a hash over the
    heads of all chains, in hex: kept outside the database, it shows later whether history was rewritten."""

    ok: bool
    checks: tuple[Check, ...]
    checked_at: datetime
    accounts: dict[str, int]
    head: str


def report(checks: tuple[Check, ...], checked_at: datetime, accounts: dict[str, int], head: str) -> Report:
    """Return the report that these checks make; no checks at all prove nothing."""
    return Report(bool(checks) and all(check.ok for check in checks), checks, checked_at, accounts, head)
