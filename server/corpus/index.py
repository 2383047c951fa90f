"""The values of vector indexes: what an index is of, and where it stands."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class IndexState(StrEnum):
    """Where an index stands; `DROPPED` is only remembered so that its name is never used again."""

    BUILDING = "building"
    READY = "ready"
    ACTIVE = "active"
    RETIRED = "retired"
    FAILED = "failed"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """An index of the catalogue: one vector space, made by `model` from texts as `analyser_version` reads them.

    `namespace` is the part of the library it is limited to, empty for all; `sample_recall` (0 to 1) is the share of
    a sample's hits in the index before that it finds too, None where nothing was compared.
    """

    name: str
    model: str
    dimensions: int
    analyser_version: int
    state: IndexState
    namespace: str
    operation_id: UUID | None
    batch_after: str
    batch_until: str
    sample_recall: float | None
    problem: str
    created_at: datetime
    updated_at: datetime
    retired_at: datetime | None
