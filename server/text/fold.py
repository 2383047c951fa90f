"""Two forms of a text: clean (what is stored and shown) and canonical (what is compared, indexed and hashed).

Both work character by character through one table, so every character of the canonical form knows the place it came
from and a quote can be found again whatever its vowel marks, accents, hamzas or digits look like.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

INVISIBLE: Final = (
    "\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
"""Bidi controls, joiners, soft hyphens and zero-width spaces: they change how a text looks, never what it says."""

TATWEEL: Final = "\u0640"

_ARABIC_LETTERS: Final = {
    "ٱ": "ا",
    "ى": "ي",
    "ی": "ي",
    "ے": "ي",
    "ې": "ي",
    "ة": "ه",
    "ۃ": "ه",
    "ہ": "ه",
    "ھ": "ه",
    "ە": "ه",
    "ک": "ك",
    "گ": "ك",
    "ڭ": "ك",
    "ݣ": "ك",
    "ڤ": "ف",
    "ڢ": "ف",
    "ڨ": "ق",
    "پ": "ب",
    "چ": "ج",
    "ژ": "ز",
}
"""Spellings of one sound. Hassaniya writers use گ, ڭ and ك for the same letter; پ and ڤ only occur in loan words."""

_LATIN_LETTERS: Final = {
    "œ": "oe",
    "æ": "ae",
    "ø": "o",
    "ł": "l",
    "đ": "d",
    "ı": "i",
    "’": "'",
    "‘": "'",
    "ʼ": "'",
    "´": "'",
}

_MARKS_AND_FORMATS: Final = ("Mn", "Me", "Cf", "Cs")
_PRESENTATION: Final = re.compile("[\ufb00-\ufb06\ufb50-\ufdff\ufe70-\ufefc]")
_CONTROLS: Final = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_SPACES: Final = re.compile(r"[^\S\n]+")
_BLANK_LINES: Final = re.compile(r" *\n *(?:\n *){2,}")
_LINE_ENDS: Final = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_JOINERS: Final = "\u200c\u200d"
_DROP_INVISIBLE: Final = str.maketrans("", "", INVISIBLE + TATWEEL)
_DROP_TURNING: Final = str.maketrans("", "", INVISIBLE.translate(str.maketrans("", "", _JOINERS)))


def _decompose(character: str) -> str:
    folded = unicodedata.normalize("NFKD", character).casefold()
    kept = (
        str(unicodedata.digit(piece, piece))
        if piece.isdecimal()
        else _ARABIC_LETTERS.get(piece, _LATIN_LETTERS.get(piece, piece))
        for piece in folded
        if unicodedata.category(piece) not in _MARKS_AND_FORMATS
        and (piece.isspace() or unicodedata.category(piece) != "Cc")
        and piece != TATWEEL
    )
    return "".join(kept)


class _Table(dict[int, str]):
    """Maps a code point to its canonical characters, filled as they are met; one entry per code point."""

    def __missing__(self, code: int) -> str:
        folded = _decompose(chr(code))
        while (again := "".join(map(_decompose, folded))) != folded:
            folded = again
        if folded.isspace():
            folded = " "
        self[code] = folded
        return folded


_TABLE: Final = _Table()


def canonical(text: str) -> str:
    """Return the form that is compared: no accents, vowel marks, tatweel or invisible characters; lower case.

    Alef, ya, ta marbuta and hamza variants are one letter each, all digits are ASCII, compatibility forms (ﬁ, ², ﻼ)
    are spelled out, runs of white space are one space. Idempotent. Punctuation stays.
    """
    return " ".join(text.translate(_TABLE).split())


def clean(text: str) -> str:
    """Return the form that is stored and shown: nothing a reader sees changes, formulas (x², H₂O) and vowels stay.

    Composed characters (NFC), presentation forms spelled out, invisible and control characters and tatweel gone,
    single spaces, line ends as one newline, at most one empty line in a row.
    """
    text = _SPACES.sub(" ", _composed(_LINE_ENDS.sub("\n", text), _DROP_INVISIBLE))
    return _BLANK_LINES.sub("\n\n", re.sub(r" ?\n ?", "\n", text)).strip()


def one_line(text: str) -> str:
    """Return a name or title as it is stored and shown beside other people's texts, which it cannot turn around.

    Composed characters (NFC), presentation forms spelled out, controls and invisible characters gone, white space as
    single spaces. Joiners stay: they are spelling.
    """
    return " ".join(_composed(text, _DROP_TURNING).split())


def _composed(text: str, dropped: Mapping[int, int | None]) -> str:
    text = _PRESENTATION.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    return unicodedata.normalize("NFC", _CONTROLS.sub("", text).translate(dropped))


@dataclass(frozen=True, slots=True)
class Folded:
    """A canonical text with, for each of its characters, the offset of the original character it came from."""

    text: str
    offsets: tuple[int, ...]
    original_length: int

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the original character span of `text[start:end]` (start < end) without marks after its end."""
        return self.offsets[start], self.offsets[end - 1] + 1


def folded(text: str) -> Folded:
    """Fold like `canonical` and keep the way back to the original characters."""
    pieces: list[str] = []
    offsets: list[int] = []
    for offset, character in enumerate(text):
        for piece in _TABLE[ord(character)]:
            if piece == " " and (not pieces or pieces[-1] == " "):
                continue
            pieces.append(piece)
            offsets.append(offset)
    if pieces and pieces[-1] == " ":
        pieces.pop()
        offsets.pop()
    return Folded("".join(pieces), tuple(offsets), len(text))


def locate(quote: str, text: str) -> tuple[int, int] | None:
    """Find a quote in a text, up to canonical form; return its character span in `text`, or None.

    An exact occurrence wins over a folded one.
    """
    at = text.find(quote) if quote else -1
    if at >= 0:
        return at, at + len(quote)
    wanted = canonical(quote)
    if not wanted:
        return None
    haystack = folded(text)
    at = haystack.text.find(wanted)
    return haystack.span(at, at + len(wanted)) if at >= 0 else None
