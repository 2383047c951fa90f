"""Pages of other documents that a page may repeat, and the choice between them. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from server.text import figures, nearduplicate


@dataclass(frozen=True, slots=True)
class StoredPage:
    """A page of another document, for comparing."""

    document_id: UUID
    number: int
    text: str


class Comparison:
    """One text, compared with others whose fingerprints are near: the second of `nearduplicate`'s two stages."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._shingles = nearduplicate.shingles(text)

    def repeats(self, other: str) -> bool:
        """Say whether the text nearly repeats another one: most of its wording and all of its figures are the same."""
        shared = nearduplicate.jaccard(self._shingles, nearduplicate.shingles(other))
        return shared >= nearduplicate.DUPLICATE_JACCARD and figures.same_figures(self._text, other)


def first_duplicate(text: str, candidates: Iterable[StoredPage]) -> StoredPage | None:
    """Return the first candidate that a text nearly repeats."""
    comparison = Comparison(text)
    return next((other for other in candidates if comparison.repeats(other.text)), None)
