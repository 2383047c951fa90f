"""Web sources and the verdicts on their pages, as values."""

import re
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from server.ingestion.job import Placement
from server.refusal import Invalid, Violation
from server.text.fold import one_line

DEFAULT_MAX_PAGES = 500
MOST_PAGES = 10_000
SHORTEST_SYNC_EVERY_SECONDS = 60
LONGEST_SYNC_EVERY_SECONDS = 366 * 86_400
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_LENGTHS = {"name": 200, "subject": 64, "grade": 16}
_PLACEMENT = ("namespace", "subject", "grade")


class Verdict(StrEnum):
    """What became of a fetched page."""

    INGESTED = "ingested"
    UNCHANGED = "unchanged"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Plan:
    """What operators say of a source. `sync_every_seconds` None means only on demand; not `enabled` means paused."""

    name: str
    start_url: str
    placement: Placement
    sync_every_seconds: int | None = None
    max_pages: int = DEFAULT_MAX_PAGES
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Source:
    """A site to keep in the library, and how its last sync ended (`last_pages` pages were looked at)."""

    id: UUID
    plan: Plan
    created_at: datetime
    last_synced_at: datetime | None = None
    last_outcome: str = ""
    last_pages: int = 0


@dataclass(frozen=True, slots=True)
class SyncedPage:
    """One page's verdict with its reason; `document_id` is the document it became or repeats."""

    url: str
    verdict: Verdict
    reason: str = ""
    document_id: UUID | None = None


FIELDS = tuple(field.name for field in fields(Plan) if field.name != "placement") + _PLACEMENT
"""What an update may name, by the names of the contract's message."""


def merged(plan: Plan, change: Plan, paths: Collection[str]) -> Plan:
    """Return `plan` with the fields that `paths` names taken from `change`; `*` names all. Raises Invalid."""
    wanted = {"sync_every_seconds" if path == "sync_every" else path for path in paths}
    if not wanted or wanted - set(FIELDS) - {"*"}:
        known = ", ".join(sorted(FIELDS)).replace("sync_every_seconds", "sync_every")
        raise Invalid(violations=[Violation("update_mask", f"Name fields to change: {known}.", "field_mask")])
    chosen = set(FIELDS) if "*" in wanted else wanted
    placed = {name: getattr(change.placement, name) for name in _PLACEMENT if name in chosen}
    others = {name: getattr(change, name) for name in chosen - set(_PLACEMENT)}
    return replace(plan, placement=replace(plan.placement, **placed), **others)


def sensible(plan: Plan) -> Plan:
    """Return a plan with its name in one line. Raises Invalid, naming every field that breaks a rule."""
    plan = replace(plan, name=one_line(plan.name))
    values = {"name": plan.name, "subject": plan.placement.subject, "grade": plan.placement.grade}
    found = [
        Violation(f"source.{name}", f"At most {_LENGTHS[name]} characters.", "string.max_len")
        for name, value in values.items()
        if len(value) > _LENGTHS[name]
    ]
    if not plan.name:
        found.append(Violation("source.name", "A name for people is needed.", "required"))
    if not _NAMESPACE.fullmatch(plan.placement.namespace):
        found.append(
            Violation("source.namespace", "Small letters, digits and dashes, such as grade-12-math.", "string.pattern")
        )
    if not 0 < plan.max_pages <= MOST_PAGES:
        found.append(Violation("source.max_pages", f"From 1 to {MOST_PAGES}.", "int32.gte_lte"))
    every = plan.sync_every_seconds
    if every is not None and not SHORTEST_SYNC_EVERY_SECONDS <= every <= LONGEST_SYNC_EVERY_SECONDS:
        found.append(Violation("source.sync_every", "From a minute to a year.", "duration.gte_lte"))
    if found:
        raise Invalid(violations=found)
    return plan
