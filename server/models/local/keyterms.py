"""What can be asked for in a sentence: its numbers, names, school terms and nouns."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from server.models.local.frequency import weight
from server.text.analysis import terms
from server.text.fold import canonical
from server.text.glossary import EVERYDAY, INSTRUCTIONS, Entry, known_terms
from server.text.language import Language
from server.text.stopwords import STOP_WORDS

SHORTEST_NOUN: Final = 4
LONGEST_KEY_WORDS: Final = 4

_NUMBER: Final = re.compile(r"(?<![\w.,/^-])\d+(?:[.,\u066b]\d+|[ \u00a0\u202f]\d{3})*(?:\s?%)?(?![\w^/]|[.,]\d)")
_NAME: Final = re.compile(r"(?<=[a-zà-ÿ,;:)»] )(?:[A-ZÀ-Þ][\w’'-]+)(?: (?:d[eu] |des |la )?[A-ZÀ-Þ][\w’'-]+)*")
_FRENCH_NOUN: Final = re.compile(
    r"(?:(?<=\bl['’])|(?<=\bd['’])|(?<=\ble )|(?<=\bla )|(?<=\bun )|(?<=\bune )|(?<=\bdu )|(?<=\bcet )|(?<=\bcette ))"
    r"[a-zà-ÿœ]{4,}(?![\w’'-])"
)
_ARABIC_NOUN: Final = re.compile("(?<![\u0621-\u0652])ال[\u0621-\u0652]{3,}(?![\u0621-\u0652])")


_BEFORE_NOUN_WORDS: Final = """
    seul seule premier premiere dernier derniere nouveau nouvelle grand grande petit petite double simple
"""
_BEFORE_NOUNS: Final = frozenset(_BEFORE_NOUN_WORDS.split())
"""French adjectives, in canonical form, that stand between an article and its noun."""


class KeyKind(StrEnum):
    """What sort of thing a key is; distractors are of the same sort."""

    NUMBER = "number"
    NAME = "name"
    TERM = "term"
    NOUN = "noun"


VALUE: Final = {KeyKind.TERM: 3.0, KeyKind.NAME: 2.5, KeyKind.NUMBER: 2.2, KeyKind.NOUN: 1.0}
"""How much a question about such a key teaches, before its rarity is added."""


@dataclass(frozen=True, slots=True)
class Key:
    """A part of a sentence that can be asked for: its characters within the sentence, its sort, its worth.

    `subject` is that of a glossary term.
    """

    text: str
    start: int
    end: int
    kind: KeyKind
    worth: float
    subject: str = ""


def keys(sentence: str, language: Language) -> list[Key]:
    """Return the keys of a sentence, best first, none inside another and none that the sentence repeats."""
    found: list[Key] = []
    taken: list[tuple[int, int]] = []
    for key in sorted(_candidates(sentence, language), key=lambda each: (-each.worth, each.start)):
        free = all(key.end <= start or key.start >= end for start, end in taken)
        if free and _once(key.text, sentence):
            found.append(key)
            taken.append((key.start, key.end))
    return found


def _candidates(sentence: str, language: Language) -> Iterator[Key]:
    for match in _NUMBER.finditer(sentence):
        if match.start() > 0:
            yield _key(match[0], match.start(), KeyKind.NUMBER)
    for match in _NAME.finditer(sentence):
        if len(match[0].split()) <= LONGEST_KEY_WORDS:
            yield _key(match[0], match.start(), KeyKind.NAME)
    for start, end, entry in known_terms(sentence, language):
        # Words of instructions and of every day teach nothing when asked for.
        if entry.subject not in {INSTRUCTIONS, EVERYDAY} and _is_spelling(sentence[start:end], entry, language):
            yield _key(_with_marks(sentence, start, end), start, KeyKind.TERM, entry.subject)
    for match in (_ARABIC_NOUN if language is not Language.FRENCH else _FRENCH_NOUN).finditer(sentence):
        if len(match[0]) >= SHORTEST_NOUN and canonical(match[0]) not in STOP_WORDS | _BEFORE_NOUNS:
            yield _key(match[0], match.start(), KeyKind.NOUN)


def _is_spelling(text: str, entry: Entry, language: Language) -> bool:
    """Say whether a text is a term as the glossary spells it, but for an article or a plural; not a verb akin to it."""
    written = canonical(text).removeprefix("ال").removesuffix("s")
    spelled = (canonical(spelling).removeprefix("ال").removesuffix("s") for spelling in entry.spellings(language))
    return written in spelled


def _with_marks(sentence: str, start: int, end: int) -> str:
    """Return a word with the vowel marks of its last letter."""
    while end < len(sentence) and not canonical(sentence[end]) and not sentence[end].isspace():
        end += 1
    return sentence[start:end]


def _key(text: str, start: int, kind: KeyKind, subject: str = "") -> Key:
    stems = terms(text)
    rarity = sum(map(weight, stems)) / len(stems) if stems else 0.0
    return Key(text, start, start + len(text), kind, VALUE[kind] + rarity, subject)


def _once(text: str, sentence: str) -> bool:
    """Say whether the stem of a key occurs only there: otherwise the rest of the sentence gives it away."""
    stems = terms(text)
    around = terms(sentence)
    return bool(stems) and all(around.count(stem) == stems.count(stem) for stem in stems)
