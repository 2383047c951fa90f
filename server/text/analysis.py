"""From text to search terms: the same for what is indexed and what is asked, in every store."""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from server.text.fold import canonical
from server.text.stemming import stem
from server.text.stopwords import STOP_WORDS

ANALYSIS_VERSION: Final = 1
"""Raise it when terms change: stored terms and vectors of another version must be made again."""

_WORD: Final = re.compile(r"[^\W_]+")
_KEPT_TOKENS: Final = 65_536
_LONGEST_KEPT: Final = 40
"""Characters; longer ones are not words that come again, and would only fill the memory."""


class _Token(NamedTuple):
    """The stems in what stands between two spaces: those that are searched, and all of them, stop words too."""

    searched: tuple[str, ...]
    all: tuple[str, ...]


def words(text: str) -> list[str]:
    """Return the canonical words of a text, in order; punctuation and signs are dropped."""
    return _WORD.findall(canonical(text))


def terms(text: str) -> list[str]:
    """Return the stems of the words of a text, in order, without stop words.

    A text of stop words only ("qui est-il ?") gives its stems unfiltered, so that it can still be searched.
    """
    # A canonical form is made character by character, so a text may be taken apart at its spaces before.
    tokens = [_kept(token) if len(token) <= _LONGEST_KEPT else _analysed(token) for token in text.split()]
    return [term for token in tokens for term in token.searched] or [term for token in tokens for term in token.all]


def _analysed(token: str) -> _Token:
    found = [(word, stem(word)) for word in words(token)]
    return _Token(tuple(term for word, term in found if word not in STOP_WORDS), tuple(term for _, term in found))


_kept = lru_cache(_KEPT_TOKENS)(_analysed)
