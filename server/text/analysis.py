"""From text to search terms: the same for what is indexed and what is asked, in every store."""

import re
from typing import Final

from server.text.fold import canonical
from server.text.stemming import stem
from server.text.stopwords import STOP_WORDS

ANALYSIS_VERSION: Final = 1
"""Raise it when terms change: stored terms and vectors of another version must be made again."""

_WORD: Final = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Return the canonical words of a text, in order; punctuation and signs are dropped."""
    return _WORD.findall(canonical(text))


def terms(text: str) -> list[str]:
    """Return the stems of the words of a text, in order, without stop words.

    A text of stop words only ("qui est-il ?") gives its stems unfiltered, so that it can still be searched.
    """
    found = words(text)
    return [stem(word) for word in found if word not in STOP_WORDS] or [stem(word) for word in found]
