"""A question in the language of what it is compared with: the glossary's words in the place of its own."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from server.models.local.evidence import CACHED_PASSAGES, Passage, Question, question
from server.text.analysis import terms
from server.text.detection import detect
from server.text.glossary import Rendering, render
from server.text.language import Language

LANGUAGE_SAMPLE_CHARACTERS: Final = 400
SCRIPT_SAMPLE_CHARACTERS: Final = 120
_ARABIC: Final = re.compile("[\u0621-\u064a]{2,}")
_LATIN: Final = re.compile("[A-Za-z\u00c0-\u017f]{2,}")


@lru_cache(CACHED_PASSAGES)
def language_of(text: str) -> Language:
    """Return the language of a question or passage, told from its beginning."""
    return detect(text[:LANGUAGE_SAMPLE_CHARACTERS]).language


def written_in(text: str) -> Language:
    """Return French or Arabic by the letters of a passage's beginning: enough for ranking, at no detector's cost."""
    sample = text[:SCRIPT_SAMPLE_CHARACTERS]
    return Language.ARABIC if len(_ARABIC.findall(sample)) > len(_LATIN.findall(sample)) else Language.FRENCH


def bridge(asked: str, language: Language) -> Rendering | None:
    """Return the question carried into the language of a source by the glossary, if that is another language."""
    return render(asked, language_of(asked), language)


def carried(asked: str, earlier: str, language: Language, passages: Sequence[Passage]) -> Question:
    """Analyse a question in the words of a language: what the glossary knows is replaced by its spellings there.

    Those are one word of the question to be covered, not several; other ones than the usual count where a passage
    holds them.
    """
    source = language_of(f"{earlier} {asked}".strip())
    known = [render(text, source, language) for text in (asked, earlier)]
    if not any(known):
        return question(asked, earlier)
    rest = [_without(text, found) for text, found in zip((asked, earlier), known, strict=True)]
    usual = [
        " ".join((text, *(pair.means for pair in (found.pairs if found else ()))))
        for text, found in zip(rest, known, strict=True)
    ]
    spelled = [
        " ".join((text, *_held(found.search, passages))) if found else text
        for text, found in zip(usual, known, strict=True)
    ]
    return replace(question(*map(str.strip, spelled)), total=question(*map(str.strip, usual)).total)


def _held(spellings: str, passages: Sequence[Passage]) -> list[str]:
    return [word for word in spellings.split() if any(stem in each for stem in terms(word) for each in passages)]


def _without(text: str, found: Rendering | None) -> str:
    for pair in found.pairs if found else ():
        text = text.replace(pair.said, " ")
    return text
