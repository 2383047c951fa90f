"""What a run ended with, in words for an operator. Pure."""

from collections import Counter
from collections.abc import Sequence

from server.ingestion.extraction.page import ExtractionFailed
from server.ingestion.judging import JudgedPage, PageVerdict
from server.models.port import ProviderFailure
from server.refusal import Kind, NotFound, Refusal
from server.text.language import Language

_TRANSIENT_KINDS = frozenset({Kind.UNAVAILABLE, Kind.DEADLINE, Kind.ABORTED, Kind.EXHAUSTED})


class CountsDiffer(Exception):
    """The stores do not agree after a run; another run finds what is missing."""


def explain(error: Exception) -> tuple[str, bool]:
    """Return why a run failed, in words for an operator, and whether another try may help."""
    if isinstance(error, ExtractionFailed):
        return str(error), error.transient
    if isinstance(error, NotFound):
        return "NOT_FOUND: the document or its file is gone", False
    if isinstance(error, Refusal):
        return f"{error.reason}: {error}", error.kind in _TRANSIENT_KINDS
    if isinstance(error, ProviderFailure):
        return "MODEL_UNAVAILABLE: the embedding model failed", error.transient
    if isinstance(error, CountsDiffer):
        return f"COUNTS_DIFFER: {error}", True
    return f"INTERNAL: {type(error).__name__}", True


def main_language(pages: Sequence[JudgedPage]) -> Language:
    """Return the language of most of the indexed text."""
    weights: Counter[Language] = Counter()
    for page in pages:
        if page.verdict is PageVerdict.INDEXED:
            weights[page.language] += len(page.text)
    return weights.most_common(1)[0][0] if weights else Language.OTHER


def why_nothing(pages: Sequence[JudgedPage]) -> str:
    """Return the commonest reasons why no page can be searched, as a sentence."""
    reasons = Counter(page.reason for page in pages).most_common(3)
    return "no page can be searched: " + " ".join(f"({count}x) {reason}" for reason, count in reasons)
