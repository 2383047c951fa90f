"""Where sentences begin and end in French and Arabic text, with their character spans."""

import re
from collections.abc import Iterator
from typing import Final

_ENDING: Final = re.compile(
    r"""(?P<mark>[.!?؟۔…]+)(?:["'»”’)\]]|[ \u00a0\u202f]»)*(?=\s|\Z)"""
    r"|(?P<blank>\n[^\S\n]*\n)"
    r"|(?P<line>\n(?=[^\S\n]*[^\W_a-zà-öø-ÿ]))"
    r"|(?P<item>\n(?=[^\S\n]*(?:[-•–▪◦*]|\(?\d{1,2}[.)°]|\(?[a-hA-Hأ-ي][.)])[^\S\n]))"
)
"""Closing punctuation before white space, an empty line, a line end before a list item, or after a heading."""

_HEADING_CHARACTERS: Final = 90
_HEADING_SHARE: Final = 0.6
"""A line that ends without punctuation and well before the text's margin was not wrapped: it is a heading."""
_NUMBERED: Final = re.compile(r"\s*(?:\d{1,2}|[IVX]{1,4}|[A-H])\s?[.)°-]\s*\S")
_COMPLETE: Final = re.compile(r"[.!?؟۔…][\"'»”’)\]\s]*\Z")
_CLOSED: Final = re.compile(r"[.!?؟۔…:;,،؛\-–(«]\s*\Z")

_LAST_WORD: Final = re.compile(r"[^\s(\[«\"']*\Z")
_ABBREVIATION_LIST = """
    m mm mme mmes mlle mlles dr drs pr prof me st ste av apr env ex fig figs tab p pp cf chap art vol no nos n ed éd etc
    al op cit ibid id max min sec ch réf ref rem déf th prop eq éq exo ann bd bld tél tel hab vs
    د أ م ص ج ت ه ق هـ ب مج ط
"""
_ABBREVIATIONS: Final = frozenset(_ABBREVIATION_LIST.split())
_UNITS: Final = frozenset(("m", "م"))
"""Abbreviations that are units after a number: "3 m." may end a sentence, "M. Diallo" does not."""

_BEFORE_NUMBERS: Final = frozenset(("n", "p"))
"""Abbreviations only before a number ("p. 12"); elsewhere they are variables, which may end a sentence."""

_OPERATORS: Final = frozenset("+=<>≤≥×÷")
"""A formula goes on with them: "1 + 2 + … + n"."""

_LOOKBACK_CHARACTERS: Final = 24


def spans(text: str) -> list[tuple[int, int]]:
    """Return the character span of each sentence, in order, without the white space around it.

    Every visible character lies in exactly one span, a heading in one of its own. A full stop after an abbreviation
    (not a unit: "3 m."), an initial or a list number, or before a small letter, ends nothing.
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


def is_complete(sentence: str) -> bool:
    """Say whether a sentence ends as one: headings, labels and cut lines do not."""
    return _COMPLETE.search(sentence) is not None


def sentences(text: str) -> list[str]:
    """Return the sentences of a text."""
    return [text[start:end] for start, end in spans(text)]


def _ends(text: str) -> Iterator[int]:
    margin = max(map(len, text.split("\n")))
    for match in _ENDING.finditer(text):
        if match["line"] is not None:
            ends = _is_heading(text[text.rfind("\n", 0, match.start()) + 1 : match.start()], margin)
        else:
            ends = match["mark"] is None or not _runs_on(text, match)
        if ends:
            yield match.end()


def _is_heading(line: str, margin: int) -> bool:
    if not line.strip() or len(line) > _HEADING_CHARACTERS or line.lstrip()[:1].islower() or _CLOSED.search(line):
        return False
    return bool(_NUMBERED.match(line)) or len(line) < _HEADING_SHARE * margin


def _runs_on(text: str, match: re.Match[str]) -> bool:
    """Say whether a sentence goes on after this punctuation mark."""
    following = text[match.end() : match.end() + 4].lstrip(" ")
    if following[:1].islower() or following[:1] in _OPERATORS:
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
    if word in _BEFORE_NUMBERS:
        return following[:1].isdigit()
    return word.lower().rpartition(".")[2] in _ABBREVIATIONS
