"""PDFium's text of a page, with raised and lowered signs where they belong.

PDFium takes a raised sign for a line of its own ("10\\n8 m" for 10⁸ m) or for a digit of the number before it (108).
"""

import ctypes
from dataclasses import dataclass
from itertools import pairwise

import pypdfium2
from pypdfium2 import raw

_SMALLER = 0.97
"""Height of a raised or lowered sign, at most, against the sign before it."""
_SHIFTED, _SAME_LINE = 0.08, 0.7
"""How far its baseline lies off, in heights of the sign before it: at least, at most."""
_LEAST_STEP, _WIDEST_STEP = 0.5, 30.0
"""In points, from one sign's origin to the next one's."""
_NEAR = 0.3
_WORD_GAP = 0.12
_SIGNS = "0123456789+-−="
_RAISED = str.maketrans(_SIGNS, "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼")
_LOWERED = str.maketrans(_SIGNS, "₀₁₂₃₄₅₆₇₈₉₊₋₋₌")


@dataclass(frozen=True, slots=True)
class _Sign:
    """A sign that is drawn: its place in the text, its edges, baseline and height in points."""

    place: int
    x0: float
    x1: float
    y: float
    height: float


def read(page: pypdfium2.PdfPage) -> str:
    """Return the text of a page as it is read; digits and signs off the line as ¹ and ₁. Raises PdfiumError."""
    layer = page.get_textpage()
    try:
        text = str(layer.get_text_range(errors="ignore"))
        drawn = [place for place, character in enumerate(text) if not character.isspace()]
        if len(text) != layer.count_chars() or not _has_scripts(layer, drawn):
            return text
        return _with_scripts(list(text), [_sign(layer, place) for place in drawn])
    finally:
        layer.close()


def _has_scripts(layer: pypdfium2.PdfTextPage, drawn: list[int]) -> bool:
    """Say whether a sign stands beside the one before it a little higher or lower: few pages need a closer look."""
    x, y = ctypes.c_double(), ctypes.c_double()
    last_x, last_y = 0.0, 0.0
    for place in drawn:
        raw.FPDFText_GetCharOrigin(layer, place, x, y)
        if _LEAST_STEP < abs(y.value - last_y) < _WIDEST_STEP and abs(x.value - last_x) < _WIDEST_STEP:
            return True
        last_x, last_y = x.value, y.value
    return False


def _sign(layer: pypdfium2.PdfTextPage, place: int) -> _Sign:
    left, bottom, right, top = layer.get_charbox(place, loose=True)
    x, y = ctypes.c_double(), ctypes.c_double()
    raw.FPDFText_GetCharOrigin(layer, place, x, y)
    return _Sign(place, left, right, y.value, abs(top - bottom))


def _with_scripts(characters: list[str], signs: list[_Sign]) -> str:
    """Turn the runs of small shifted digits, and close the gaps that PDFium put before and behind small signs."""
    base: _Sign | None = None
    run: list[_Sign] = []
    for before, sign in pairwise(signs):
        if base is None and _shift(before, sign):
            base = before
        elif base is not None and not _shift(base, sign, run[-1]):
            _set_off(characters, base, run)
            _close(characters, run[-1], sign, base)
            base, run = (before, []) if _shift(before, sign) else (None, [])
        if base is not None:
            _close(characters, before, sign, base)
            run.append(sign)
    if base is not None:
        _set_off(characters, base, run)
    return "".join(characters)


def _shift(base: _Sign, sign: _Sign, before: _Sign | None = None) -> float:
    """Return how far a sign lies off the line of `base`, in its heights; 0 when it stands on it or far from it."""
    off = (sign.y - base.y) / max(0.01, base.height)
    gap = (sign.x0 - (before or base).x1) / max(0.01, base.height)
    small = sign.height < _SMALLER * base.height
    return off if small and _SHIFTED < abs(off) < _SAME_LINE and -_NEAR < gap < _NEAR else 0.0


def _close(characters: list[str], before: _Sign, sign: _Sign, base: _Sign) -> None:
    """Take out the break that PDFium guessed between two signs that stand side by side."""
    gap = (sign.x0 - before.x1) / max(0.01, base.height)
    between = range(before.place + 1, sign.place)
    if abs(sign.y - base.y) < _SAME_LINE * base.height and -_NEAR < gap < 2 * _NEAR:
        broken = any(characters[place] in "\r\n" for place in between)
        for place in between:
            if broken or gap < _WORD_GAP:
                characters[place] = ""
        if broken and gap >= _WORD_GAP:
            characters[between[0]] = " "


def _set_off(characters: list[str], base: _Sign, run: list[_Sign]) -> None:
    if all(characters[sign.place] in _SIGNS for sign in run):
        for sign in run:
            table = _RAISED if sign.y > base.y else _LOWERED
            characters[sign.place] = characters[sign.place].translate(table)
