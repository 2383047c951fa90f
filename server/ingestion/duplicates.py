"""Pages of other documents that a page may repeat, and the choice between them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from server.text import figures, nearduplicate

_MOST_KEPT_TEXTS = 1_024


@dataclass(frozen=True, slots=True)
class StoredPage:
    """A page of another document, for comparing."""

    document_id: UUID
    number: int
    text: str


class Comparison:
    """Texts whose fingerprints are near: the second of `nearduplicate`'s two stages. Each is cut up once."""

    def __init__(self) -> None:
        self._shingles = lru_cache(_MOST_KEPT_TEXTS)(nearduplicate.shingles)

    def repeats(self, one: str, other: str) -> bool:
        """Say whether a text nearly repeats another one: most of its wording and all of its figures are the same."""
        shared = nearduplicate.jaccard(self._shingles(one), self._shingles(other))
        return shared >= nearduplicate.DUPLICATE_JACCARD and figures.same_figures(one, other)


def originals(texts: Mapping[int, str], candidates: Mapping[int, Sequence[StoredPage]]) -> dict[int, StoredPage]:
    """Return the first candidate that each page nearly repeats, by page number, of the pages that have one."""
    comparison = Comparison()
    found = {}
    for number, others in candidates.items():
        original = next((other for other in others if comparison.repeats(texts[number], other.text)), None)
        if original is not None:
            found[number] = original
    return found
