"""From text to search terms: the same for what is indexed and what is asked, in every store."""

import re
from itertools import chain
from typing import Final

from server.text.fold import canonical
from server.text.memo import Memo
from server.text.stemming import stem
from server.text.stopwords import STOP_WORDS

ANALYSIS_VERSION: Final = 1
"""Raise it when terms change: stored terms and local vectors of another version are made again by a reindex.

Not in a release that is updated from one without the column `chunk.analyser_version`: its servers write no version.
"""

_WORD: Final = re.compile(r"[^\W_]+")
_KEPT_TOKENS: Final = 65_536
_LONGEST_KEPT: Final = 40
"""Characters; longer ones are not words that come again, and would only fill the memory."""


def words(text: str) -> list[str]:
    """Return the canonical words of a text, in order; punctuation and signs are dropped."""
    return _WORD.findall(canonical(text))


def terms(text: str) -> list[str]:
    """Return the stems of the words of a text, in order, without stop words.

    A text of stop words only ("qui est-il ?") gives its stems unfiltered, so that it can still be searched.
    """
    # A canonical form is made character by character, so a text may be taken apart at its spaces before.
    found = list(chain.from_iterable(map(_by_token.__getitem__, text.split())))
    return found or [stem(word) for word in words(text)]


def _searched(token: str) -> tuple[str, ...]:
    return tuple(stem(word) for word in words(token) if word not in STOP_WORDS)


_by_token: Final = Memo(_searched, _KEPT_TOKENS, worth_keeping=lambda token: len(token) <= _LONGEST_KEPT)
