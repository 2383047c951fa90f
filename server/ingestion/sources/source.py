"""Web sources and the verdicts on their pages, as values."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from server.ingestion.job import Placement


class Verdict(StrEnum):
    """What became of a fetched page."""

    INGESTED = "ingested"
    UNCHANGED = "unchanged"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Source:
    """A site to keep in the library: where to start, where its pages are filed, how many pages a sync may fetch."""

    id: UUID
    start_url: str
    placement: Placement
    max_pages: int = 500


@dataclass(frozen=True, slots=True)
class SyncedPage:
    """One page's verdict with its reason; `document_id` is the document it became or repeats."""

    url: str
    verdict: Verdict
    reason: str = ""
    document_id: UUID | None = None
