"""Letters that a file's character map leaves out, told from their neighbours and from the words they stand in.

Fonts draw some letters as several glyphs (a stem and its hamza, the two halves of a lam-hah, a letter and its vowel
mark). WeasyPrint, fpdf2 and others give the text of such a group to one of its glyphs and nothing to the rest; later
the same glyphs stand alone, and letters are missing ("الرب" for "الحرب"). A glyph stands for one thing in a document.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise

from server.ingestion.extraction.glyphs import GROUP, UNKNOWN, Glyph, Name
from server.text.plausibility import ALPHABETS, bits_per_letter

MOST_WORDS = 100
NEAR = 5
"""An unmapped glyph with an Arabic letter among so many glyphs on either side may be one."""
WHOLE_WORD = 4
"""Letters of a glyph's text from which on it is taken for a word."""
_PLACEHOLDERS = [chr(code) for code in range(0x8A0, 0x8C8)]
"""Arabic letters of languages that are not read here: they keep a glyph's direction until its letter is known."""
_CANDIDATES = (*ALPHABETS["arabic"], "لا", "لأ", "لإ")
_LIKELY = frozenset("أإؤئ")
_LIKELY_GAIN = 2.0
"""Bits a letter, over the number of words (two at least), that speak for letters with a hamza: with a vowel mark, they
are what is drawn as several glyphs."""
_AFTER_LAM = frozenset("اأإآ")
"""The letters that a glyph without width can be: the second half of a lam-alef."""
_BEFORE_LAM = frozenset("وفبا")
"""What may stand before the lam of "for the"."""
_SHARED_GAINS = 0.4
"""Bits a letter by which a guess from the words must beat the reading that the file itself suggests."""
_ORNAMENT_GAINS = 3.0
"""Bits a letter, over the number of words (ten at least), by which words must be likelier without a glyph that is as
wide as a letter to take it for an ornament."""
_LETTER_GAINS = 1.0
"""Bits a letter, over the number of words, by which a glyph without width must make words likelier to be a letter."""
_NO_WIDTH = 0.03
"""In em."""
_WORD = re.compile("[\u0621-\u0652\u0670\u08a0-\u08c7]+")
_MARKS = re.compile("[\u064b-\u0652\u0670]")
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
        """Return a page's glyphs, unmapped ones near Arabic letters with a sign that holds their place, others gone."""
        glyphs = list(_without_told(glyphs))
        for before, glyph in pairwise(glyphs):
            if glyph.text == UNKNOWN and glyph.name not in self._parted and glyph.name not in self._mysteries:
                self._meet(before, glyph)
        self._parted |= _doubled(glyphs)
        held = []
        for at, glyph in enumerate(glyphs):
            text = self._parted.get(glyph.name, glyph.text)
            if text == UNKNOWN:
                around = glyphs[max(0, at - NEAR) : at + NEAR + 1]
                text = self._sign(glyph, glyphs[at - 1]) if any(_is_arabic(other.text) for other in around) else ""
                if not text:
                    continue
            held.append(replace(glyph, text=text))
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

    def _sign(self, glyph: Glyph, before: Glyph) -> str:
        mystery = self._mysteries.get(glyph.name)
        if mystery is None:
            return ""
        return mystery.beside if before.name == mystery.half != (0, 0) else mystery.alone

    def _letter(self, sign: str) -> str:
        mystery = self._holders.get(sign)
        if mystery is None:
            return sign
        if mystery.read[0] != len(mystery.words):
            mystery.read = (len(mystery.words), _likeliest(mystery))
        return mystery.read[1][sign]


def _without_told(glyphs: Sequence[Glyph]) -> Iterator[Glyph]:
    """Leave out unmapped glyphs beside one that has the text of a whole word: theirs is in it."""
    for is_unknown, run in groupby(enumerate(glyphs), lambda item: item[1].text == UNKNOWN):
        places = [at for at, _ in run]
        ends = (*glyphs[max(0, places[0] - 1) : places[0]], *glyphs[places[-1] + 1 : places[-1] + 2])
        if not (is_unknown and any(_letters(glyph.text) >= WHOLE_WORD for glyph in ends)):
            yield from (glyphs[at] for at in places)


def _letters(text: str) -> int:
    return sum(character.isalpha() for character in text)


def _doubled(glyphs: Sequence[Glyph]) -> dict[Name, str]:
    """Return the own letter of glyphs whose text repeats the letter drawn after them, wherever they stand ("للك").

    A lam-kaf in one glyph does so as well, but only behind the lam that begins a word.
    """
    own: dict[Name, str] = {}
    others: set[Name] = set()
    for glyph, after, beyond in zip(glyphs, glyphs[1:], [*glyphs[2:], Glyph("", 0, 0, 0, 0)], strict=False):
        if len(glyph.text) != 2 or glyph.name[1] == GROUP or not _is_arabic(glyph.text) or glyph.text in _CANDIDATES:
            continue
        repeats = after.text == glyph.text[0] and not unicodedata.combining(glyph.text[1])
        if repeats and beyond.text not in _BEFORE_LAM and _is_arabic(beyond.text):
            own[glyph.name] = glyph.text[1]
        elif not repeats:
            others.add(glyph.name)
    return {name: letter for name, letter in own.items() if name not in others}


def _likeliest(mystery: _Mystery) -> dict[str, str]:
    """Return what the two signs stand for, as read where all words together are likeliest; nothing without words."""
    text = " ".join(sorted(mystery.words))
    others = _HELD.sub(lambda found: found[0] if found[0] in (mystery.alone, mystery.beside) else "", text)

    def bits(reading: dict[str, str]) -> float:
        read = others.replace(mystery.alone, reading[mystery.alone]).replace(mystery.beside, reading[mystery.beside])
        return bits_per_letter(read, "arabic")

    if not _is_arabic(others):
        alone = "" if mystery.narrow or not others else "لا"
        return {mystery.alone: alone, mystery.beside: alone}
    count = max(1, len(mystery.words))
    gain = _LIKELY_GAIN / max(2, count)
    readings = [
        ({mystery.alone: letter, mystery.beside: letter}, -gain if letter in _LIKELY else 0.0)
        for letter in _CANDIDATES
        if not mystery.narrow or (letter in _AFTER_LAM and _stands_after_lam(mystery))
    ]
    cost = -_LETTER_GAINS / count if mystery.narrow else _ORNAMENT_GAINS / max(10, count)
    readings.append(({mystery.alone: "", mystery.beside: ""}, cost))
    if mystery.half_text:
        readings.append(({mystery.alone: mystery.half_text, mystery.beside: ""}, -_SHARED_GAINS - gain))
    return min(readings, key=lambda reading: bits(reading[0]) + reading[1])[0]


def _stands_after_lam(mystery: _Mystery) -> bool:
    bare = (_MARKS.sub("", word) for word in mystery.words)
    return all(word[word.index(mystery.alone) - 1 : word.index(mystery.alone)] == "ل" for word in bare)


def _is_arabic(text: str) -> bool:
    return any("\u0621" <= character <= "\u064a" for character in text)
