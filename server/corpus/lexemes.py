"""How a text is written down for full-text search: each stem once, with a label that says how often it occurs."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from server.corpus.passage import ChunkDraft
from server.text.analysis import terms

LABELS = ((5, "A"), (3, "B"), (2, "C"), (1, "D"))
"""Lowest number of occurrences of each label; `search_chunks` in the database knows what they weigh.

Whoever changes how passages are written down raises ANALYSIS_VERSION.
"""
LONGEST_LEXEME = 64
"""Longer "words" are damaged text; nobody asks for them."""
MOST_QUERY_TERMS = 64


@dataclass(frozen=True, slots=True)
class Lexemes:
    """A text as a tsvector literal, and its length in terms with repetitions."""

    literal: str
    term_count: int


@dataclass(frozen=True, slots=True)
class Indexed:
    """A chunk to be stored with its lexemes."""

    draft: ChunkDraft
    lexemes: Lexemes


def indexed(draft: ChunkDraft) -> Indexed:
    """Analyse a chunk; takes about 0.1 ms."""
    return Indexed(draft, of_passage(draft.text))


def of_passage(text: str) -> Lexemes:
    """Return what is stored of a passage."""
    kept = _kept(terms(text))
    counts = Counter(kept)
    return Lexemes(" ".join(f"{_quoted(term)}:1{_label(count)}" for term, count in counts.items()), len(kept))


def of_query(text: str) -> list[str]:
    """Return the terms of a question, with repetitions, at most 64."""
    return _kept(terms(text))[:MOST_QUERY_TERMS]


def _kept(found: Iterable[str]) -> list[str]:
    return [term for term in found if len(term) <= LONGEST_LEXEME]


def _label(count: int) -> str:
    return next(label for lowest, label in LABELS if count >= lowest)


def _quoted(term: str) -> str:
    escaped = term.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
