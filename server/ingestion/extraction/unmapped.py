"""Letters that a file's character map leaves out, told from their neighbours and from the words they stand in.

Fonts draw some letters as several glyphs (a stem and its hamza, the two halves of a lam-hah, a letter and its vowel
mark). WeasyPrint, fpdf2 and others give the text of such a group to one of its glyphs and nothing to the rest; later
the same glyphs stand alone, and letters are missing ("الرب" for "الحرب"). A glyph stands for one thing in a document.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from server.ingestion.extraction.glyphs import GROUP, UNKNOWN, Glyph, Name
from server.text.plausibility import ALPHABETS, bits_per_letter

MOST_WORDS = 100
_PLACEHOLDERS = [chr(code) for code in range(0x8A0, 0x8C8)]
"""Arabic letters of languages that are not read here: they keep a glyph's direction until its letter is known."""
_CANDIDATES = (*ALPHABETS["arabic"], "لا", "لأ", "لإ")
_SHARED_GAINS = 0.4
"""Bits a letter by which a guess from the words must beat the reading that the file itself suggests."""
_ORNAMENT_GAINS = 3.0
"""Bits a letter, over the number of words (ten at least), by which words must be likelier without a glyph that is as
wide as a letter to take it for an ornament."""
_LETTER_GAINS = 1.5
"""Bits a letter, over the number of words, by which a glyph without width must make words likelier to be a letter."""
_NO_WIDTH = 0.03
"""In em."""
_WORD = re.compile("[\u0621-\u0652\u0670\u08a0-\u08c7]+")
_HELD = re.compile("[\u08a0-\u08c7]")


@dataclass(slots=True)
class _Mystery:
    """An unmapped glyph: the signs that hold its place alone and beside its other half, and the words it is met in."""

    alone: str
    beside: str
    half: Name
    half_text: str
    narrow: bool
    words: set[str] = field(default_factory=set)
    read: tuple[int, dict[str, str]] = (-1, {})


class Unmapped:
    """The unmapped glyphs of one document."""

    def __init__(self) -> None:
        self._parted: dict[Name, str] = {}
        self._mysteries: dict[Name, _Mystery] = {}
        self._holders: dict[str, _Mystery] = {}

    def hold(self, glyphs: Sequence[Glyph]) -> list[Glyph]:
        """Return a page's glyphs, unmapped ones beside Arabic letters with a sign that holds their place, or ''."""
        for before, glyph in pairwise(glyphs):
            if glyph.text == UNKNOWN and glyph.name not in self._parted and glyph.name not in self._mysteries:
                self._meet(before, glyph)
        self._parted |= _doubled(glyphs)
        before = None
        held = []
        for glyph in glyphs:
            text = self._parted.get(glyph.name, glyph.text)
            held.append(replace(glyph, text=self._sign(glyph, before) if text == UNKNOWN else text))
            before = glyph
        return held

    def learn(self, text: str) -> str:
        """Remember the words of a page in which letters are missing; return the page unchanged."""
        if self._mysteries:
            for word in _WORD.findall(text):
                for sign in set(_HELD.findall(word)):
                    words = self._holders[sign].words if sign in self._holders else set()
                    if len(words) < MOST_WORDS:
                        words.add(word)
        return text

    def resolve(self, text: str) -> str:
        """Return a page's text with the letters that its held places most likely stand for."""
        return _HELD.sub(lambda found: self._letter(found[0]), text) if self._mysteries else text

    def _meet(self, before: Glyph, glyph: Glyph) -> None:
        """Look at the first place of an unmapped glyph: what is drawn before it, on its left, may have its text."""
        narrow = glyph.x1 - glyph.x0 < _NO_WIDTH * glyph.size
        near = before if abs(glyph.x0 - before.x1) < glyph.size and _is_arabic(before.text) else None
        near = near if near and not narrow and near.name[1] != GROUP else None
        if near and len(near.text) > 1:
            wide = near.x1 > near.x0
            marks = "".join(character for character in near.text if unicodedata.combining(character))
            own = near.text[-1] if wide else marks
            self._parted |= {glyph.name: near.text.removesuffix(own), near.name: own}
        elif len(self._holders) < len(_PLACEHOLDERS) - 1:
            alone, beside = _PLACEHOLDERS[len(self._holders) : len(self._holders) + 2]
            mystery = _Mystery(alone, beside, near.name if near else (0, 0), near.text if near else "", narrow)
            self._mysteries[glyph.name] = self._holders[alone] = self._holders[beside] = mystery

    def _sign(self, glyph: Glyph, before: Glyph | None) -> str:
        mystery = self._mysteries.get(glyph.name)
        if mystery is None:
            return ""
        return mystery.beside if before and before.name == mystery.half != (0, 0) else mystery.alone

    def _letter(self, sign: str) -> str:
        mystery = self._holders.get(sign)
        if mystery is None:
            return sign
        if mystery.read[0] != len(mystery.words):
            mystery.read = (len(mystery.words), _likeliest(mystery))
        return mystery.read[1][sign]


def _doubled(glyphs: Sequence[Glyph]) -> dict[Name, str]:
    """Return the own letter of glyphs whose text repeats the letter drawn after them, wherever they stand ("للك")."""
    beside: dict[Name, list[tuple[str, str]]] = {}
    for glyph, after in pairwise(glyphs):
        if len(glyph.text) == 2 and glyph.name[1] != GROUP and _is_arabic(glyph.text) and glyph.text not in _CANDIDATES:
            beside.setdefault(glyph.name, []).append((glyph.text, after.text))
    return {
        name: pairs[0][0][1]
        for name, pairs in beside.items()
        if len(pairs) > 1 and all(text[0] == after and not unicodedata.combining(text[1]) for text, after in pairs)
    }


def _likeliest(mystery: _Mystery) -> dict[str, str]:
    """Return what the two signs stand for, as read where all words together are likeliest; nothing without words."""
    text = " ".join(sorted(mystery.words))
    others = _HELD.sub(lambda found: found[0] if found[0] in (mystery.alone, mystery.beside) else "", text)

    def bits(reading: dict[str, str]) -> float:
        return bits_per_letter(others.translate(str.maketrans(reading)), "arabic")

    readings = [({mystery.alone: letter, mystery.beside: letter}, 0.0) for letter in _CANDIDATES]
    count = max(1, len(mystery.words))
    cost = -_LETTER_GAINS / count if mystery.narrow else _ORNAMENT_GAINS / max(10, count)
    readings.append(({mystery.alone: "", mystery.beside: ""}, cost))
    if mystery.half_text:
        readings.append(({mystery.alone: mystery.half_text, mystery.beside: ""}, -_SHARED_GAINS))
    if not _is_arabic(others):
        return readings[len(_CANDIDATES)][0]
    return min(readings, key=lambda reading: bits(reading[0]) + reading[1])[0]


def _is_arabic(text: str) -> bool:
    return any("\u0621" <= character <= "\u064a" for character in text)
