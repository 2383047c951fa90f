"""Reading order for right-to-left lines that a PDF draws from left to right.

A PDF places glyphs; Arabic lines usually come in visual order. This turns one line back into the order it is read in:
reverse it, then turn the runs of Latin letters and digits in it forward again (the inverse of the Unicode
bidirectional algorithm, UAX #9, for one embedded level). Pure.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

_MIRRORED = str.maketrans("()[]{}<>«»", ")(][}{><»«")
RIGHT_TO_LEFT = frozenset({"R", "AL"})
_LEFT_TO_RIGHT = frozenset({"L"})
_NUMBER = frozenset({"EN", "AN"})
_NUMBER_JOINER = frozenset({"CS", "ES"})
_NUMBER_SIGN = frozenset({"ET"})
_SPACE = frozenset({"WS", "S", "B"})
_PARTS = frozenset({"S"})
"""Segment separators (a tab, the gap between two cells) end a run (UAX #9, L1)."""
_SYMBOL = r"[kcdmµnMG]?(?:Pa|Hz|mol|eV|Wh|bar|min|cal|m|g|s|N|J|W|V|A|K|C|F|L|l|h|t|Ω)[²³23]?"
_UNIT_BEFORE_NUMBER = re.compile(rf"({_SYMBOL}(?:/{_SYMBOL})?)([\s°]*\s)(\d[\d.,]*)")
"""How "20 m/s" and "42 °C" stand in a right-to-left line: the unit on the left of its number."""
_OPENS_RIGHT = re.compile(r"(?:^|\s)\(\S")
_OPENS_WRONG = re.compile(r"(?:^|\s)\)\S")


@dataclass(frozen=True, slots=True)
class Unit:
    """A glyph with the text it stands for (a ligature is one unit of several letters), its edges in points."""

    text: str
    x: float
    end: float = 0.0

    @property
    def direction(self) -> str:
        """Bidirectional class of the unit's last code point that has a strong direction, else of its first of any."""
        kinds = [unicodedata.bidirectional(character) for character in self.text]
        strong = [kind for kind in kinds if kind in RIGHT_TO_LEFT or kind in _LEFT_TO_RIGHT]
        weak = (kind for kind in kinds if kind not in ("NSM", "BN", ""))
        return strong[-1] if strong else next(weak, "NSM")


def mostly_right_to_left(units: Sequence[Unit]) -> bool:
    """Say whether a line reads from right to left: more right-to-left letters than others, or as many words.

    The address of a web site is longer than the three words around it; a formula has more "words" than they.
    """
    letters = {RIGHT_TO_LEFT: 0, _LEFT_TO_RIGHT: 0}
    words = dict(letters)
    inside: frozenset[str] | None = None
    for kind in (unit.direction for unit in units):
        strong = next((kinds for kinds in letters if kind in kinds), None)
        if strong:
            letters[strong] += 1
            words[strong] += strong != inside
        if strong or kind in _SPACE:
            inside = strong
    more = letters[RIGHT_TO_LEFT] > letters[_LEFT_TO_RIGHT]
    return more or words[RIGHT_TO_LEFT] >= max(1, words[_LEFT_TO_RIGHT])


def reading_order(units: Sequence[Unit], *, mirrored: bool = False) -> str:
    """Return the text, in reading order, of a line whose units come as drawn from left to right.

    `mirrored`: this producer swaps brackets in right-to-left text.
    """
    if mostly_right_to_left(units):
        return "".join(_read_from_right(units, mirrored=mirrored))
    return "".join(_read_from_left(units, mirrored=mirrored))


def brackets_are_mirrored(text: str) -> bool:
    """Say whether a page's brackets open to the wrong side more often than to the right one."""
    return len(_OPENS_WRONG.findall(text)) > len(_OPENS_RIGHT.findall(text))


def _read_from_left(units: Sequence[Unit], *, mirrored: bool) -> list[str]:
    """Read a left-to-right line: only its runs of right-to-left words are turned."""
    kinds = [unit.direction for unit in units]
    texts: list[str] = []
    position = 0
    while position < len(units):
        end = position
        for at in range(position, len(units)):
            if kinds[at] in _LEFT_TO_RIGHT:
                break
            if kinds[at] in RIGHT_TO_LEFT:
                end = at + 1
        if kinds[position] in RIGHT_TO_LEFT:
            texts.extend(_read_from_right(units[position:end], mirrored=mirrored))
            position = end
        else:
            texts.append(units[position].text)
            position += 1
    return texts


def _read_from_right(units: Sequence[Unit], *, mirrored: bool) -> list[str]:
    """Read a right-to-left line: from its end, the runs of letters and numbers in it forward."""
    units = units[::-1]
    kinds = [unit.direction for unit in units]
    texts: list[str] = []
    position = 0
    while position < len(units):
        end = _run_end(kinds, position)
        if end > position:
            texts.append(_number_first("".join(unit.text for unit in reversed(units[position:end]))))
            position = end
        else:
            text = units[position].text
            texts.append(text.translate(_MIRRORED) if mirrored else text)
            position += 1
    return texts


def _number_first(run: str) -> str:
    """Return a forward run; a unit of measure goes behind its number, as it is said."""
    found = _UNIT_BEFORE_NUMBER.fullmatch(run)
    return f"{found[3]}{found[2][::-1]}{found[1]}" if found else run


def _run_end(kinds: Sequence[str], start: int) -> int:
    """Return the end of the forward run that begins at `start`; `start` itself when none begins there.

    Letters keep the neutrals and numbers between them; numbers are joined to numbers only by one separator without a
    space, because "1990 - 1995" runs from right to left in an Arabic line.
    """
    if not _forward(kinds[start]):
        return start
    end = start + 1
    position = end
    letters = kinds[start] in _LEFT_TO_RIGHT
    while position < len(kinds):
        ahead = position
        while ahead < len(kinds) and not _forward(kinds[ahead]) and kinds[ahead] not in RIGHT_TO_LEFT:
            ahead += 1
        if ahead == len(kinds) or kinds[ahead] in RIGHT_TO_LEFT or not _PARTS.isdisjoint(kinds[position:ahead]):
            return end
        between = kinds[position:ahead]
        letters = letters or kinds[ahead] in _LEFT_TO_RIGHT
        if between and not letters and not _joins_numbers(between) and not _letters_follow(kinds, ahead):
            return end
        end = position = ahead + 1
    return end


def _forward(kind: str) -> bool:
    return kind in _LEFT_TO_RIGHT or kind in _NUMBER or kind in _NUMBER_SIGN


def _joins_numbers(between: Sequence[str]) -> bool:
    return len(between) == 1 and between[0] in _NUMBER_JOINER


def _letters_follow(kinds: Sequence[str], start: int) -> bool:
    """Say whether a left-to-right letter comes before the next right-to-left one."""
    for kind in kinds[start:]:
        if kind in RIGHT_TO_LEFT or kind in _PARTS:
            return False
        if kind in _LEFT_TO_RIGHT:
            return True
    return False
