"""Whether a drafted question may be asked: one right answer, backed by words that stand in the source.

A model proposes, this decides. A question is dropped, with the reason, rather than mended.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from server.models.port import DraftQuestion, QuestionKind
from server.text.fold import canonical, locate

GAP = "_____"
MIN_OPTIONS, MAX_OPTIONS = 2, 8
MAX_STEM_CHARACTERS = 1_000
MAX_OPTION_CHARACTERS = 300
MIN_QUOTE_CHARACTERS = 8
CHOICE = (QuestionKind.SINGLE_CHOICE, QuestionKind.MULTIPLE_CHOICE, QuestionKind.TRUE_FALSE)

_WORDS = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Backed:
    """A question that may be asked, with the span of its quote in the source's text."""

    draft: DraftQuestion
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """A question that may not be asked, and why."""

    reason: str


def validate(draft: DraftQuestion, source_text: str, asked: Collection[str]) -> Backed | Dropped:
    """Judge a draft against the text it quotes and the `signature`s of questions already in the quiz."""
    if reason := _badly_formed(draft):
        return Dropped(reason)
    if signature(draft) in asked:
        return Dropped("repeats another question")
    span = locate(draft.quote, source_text) if len(draft.quote.strip()) >= MIN_QUOTE_CHARACTERS else None
    if span is None:
        return Dropped("its quote does not stand in the source")
    quote = source_text[span[0] : span[1]]
    if draft.kind is not QuestionKind.TRUE_FALSE and not _key_is_backed(draft, quote):
        return Dropped("its quote does not hold the key")
    return Backed(draft, *span)


def signature(draft: DraftQuestion) -> str:
    """Return what makes two questions the same: their words, whatever the accents, marks and options' order."""
    options = sorted(_plain(option) for option in draft.options)
    return "|".join([_plain(draft.stem), *options])


def _badly_formed(draft: DraftQuestion) -> str:
    if not draft.stem.strip() or len(draft.stem) > MAX_STEM_CHARACTERS:
        return "its stem is empty or too long"
    if draft.kind in CHOICE:
        return _bad_options(draft)
    if draft.options:
        return "a text question has options"
    if draft.kind is QuestionKind.CLOZE and draft.stem.count(GAP) != 1:
        return "a cloze question needs exactly one gap"
    texts = [_plain(text) for text in draft.accepted]
    if not texts or not all(texts):
        return "it accepts no answer"
    if any(_holds(_plain(draft.stem), text) for text in texts):
        return "its stem gives the answer away"
    return ""


def _bad_options(draft: DraftQuestion) -> str:
    if draft.kind is QuestionKind.TRUE_FALSE:
        wanted, right = len(draft.options) == 2, len(draft.correct) == 1
    else:
        wanted = MIN_OPTIONS <= len(draft.options) <= MAX_OPTIONS
        single = draft.kind is QuestionKind.SINGLE_CHOICE
        right = len(draft.correct) == 1 if single else 0 < len(draft.correct) < len(draft.options)
    if not wanted:
        return "it has too few or too many options"
    if not right or len(set(draft.correct)) != len(draft.correct):
        return "its number of right options is wrong"
    if not all(0 <= place < len(draft.options) for place in draft.correct):
        return "its key names an option that is not there"
    if not all(option.strip() and len(option) <= MAX_OPTION_CHARACTERS for option in draft.options):
        return "an option is empty or too long"
    if len({_exact(option) for option in draft.options}) != len(draft.options):
        return "two options are the same"
    return ""


def _key_is_backed(draft: DraftQuestion, quote: str) -> bool:
    """Every right option must stand in the quote; of accepted texts one is enough, the others are spellings of it."""
    folded = _plain(quote)
    if draft.kind in CHOICE:
        return all(_holds(folded, _plain(draft.options[place])) for place in draft.correct)
    return any(_holds(folded, _plain(text)) for text in draft.accepted)


def _holds(folded: str, words: str) -> bool:
    return f" {words} " in f" {folded} "


def _plain(text: str) -> str:
    return " ".join(_WORDS.findall(canonical(text)))


def _exact(text: str) -> str:
    """Like `_plain` but keeps signs: in maths, -2 and 2 are two options."""
    return " ".join(canonical(text).split())
