"""Where sentences begin and end in French and Arabic text, with their character spans."""

import re
from collections.abc import Iterator
from typing import Final

_ENDING: Final = re.compile(
    r"""(?P<mark>[.!?؟۔…]+)(?:["'»”’)\]]|[ \u00a0\u202f]»)*(?=\s|\Z)"""
    r"|(?P<blank>\n[^\S\n]*\n)"
    r"|(?P<item>\n(?=[^\S\n]*(?:[-•–▪◦*]|\(?\d{1,2}[.)°]|\(?[a-hA-Hأ-ي][.)])[^\S\n]))"
)
"""Closing punctuation before white space, an empty line, or a line end before a list item."""

_LAST_WORD: Final = re.compile(r"[^\s(\[«\"']*\Z")
_ABBREVIATION_LIST = """
    m mm mme mmes mlle mlles dr drs pr prof me st ste av apr env ex fig figs tab p pp cf chap art vol no nos n ed éd etc
    al op cit ibid id max min sec ch réf ref rem déf th prop eq éq exo ann bd bld tél tel hab vs
    د أ م ص ج ت ه ق هـ ب مج ط
"""
_ABBREVIATIONS: Final = frozenset(_ABBREVIATION_LIST.split())
_UNITS: Final = frozenset(("m", "م"))
"""Abbreviations that are units after a number: "3 m." may end a sentence, "M. Diallo" does not."""

_LOOKBACK_CHARACTERS: Final = 24


def spans(text: str) -> list[tuple[int, int]]:
    """Return the character span of each sentence, in order, without the white space around it.

    Every visible character lies in exactly one span. A full stop after an abbreviation (not a unit: "3 m."), an initial
    or a list number, or before a small letter, ends nothing.
    """
    found: list[tuple[int, int]] = []
    start = 0
    for end in (*_ends(text), len(text)):
        piece = text[start:end]
        if stripped := piece.strip():
            first = start + piece.index(stripped[0])
            found.append((first, first + len(stripped)))
        start = end
    return found


def sentences(text: str) -> list[str]:
    """Return the sentences of a text."""
    return [text[start:end] for start, end in spans(text)]


def _ends(text: str) -> Iterator[int]:
    for match in _ENDING.finditer(text):
        if match["mark"] is None or not _runs_on(text, match):
            yield match.end()


def _runs_on(text: str, match: re.Match[str]) -> bool:
    """Say whether a sentence goes on after this punctuation mark."""
    following = text[match.end() : match.end() + 4].lstrip(" ")
    if following[:1].islower():
        return True
    if match["mark"] != ".":
        return False
    line_start = text.rfind("\n", 0, match.start()) + 1
    word_match = _LAST_WORD.search(text[max(line_start, match.start() - _LOOKBACK_CHARACTERS) : match.start()])
    word = word_match[0] if word_match else ""
    if len(word) == 1 and word.isupper():
        return True
    if word.isdigit() and len(word) <= 2 and not text[line_start : match.start() - len(word)].strip():
        return True
    if word in _UNITS and text[line_start : match.start() - len(word)].rstrip(" ")[-1:].isdigit():
        return False
    return word.lower().rpartition(".")[2] in _ABBREVIATIONS
