"""Do two nearly equal texts state the same numbers and formulas?

Exercises made from one template share almost all their words; their figures are what makes them different exercises.
The two texts are aligned word by word and only the places where they differ are looked at, so that typos, lost
punctuation, headers and cuts do not count, and another number does.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Final

from server.text.fold import canonical

LONGEST_ALIGNMENT_WORDS: Final = 4_000
"""Longer differing parts are compared as bags of numbers: alignment takes quadratic time."""

EDGE_SHARE: Final = 0.12
EDGE_WORDS: Final = 12
"""Numbers may be added or missing this near to either end of a text: headers, footers, cuts."""

_PAGE_NUMBER: Final = re.compile(r"\A\W*\d{1,4}\W*\n|\n\W*\d{1,4}\W*\Z")
_TOKEN: Final = re.compile(r"\d+(?:[.,\u066b\u066c]\d+)+|[^\W_]+|[=<>≤≥≠±×÷√∫∑∏∞^∈∉∪∩⊂→⇌+*/\u2212-]")
_OPERATORS: Final = frozenset("=<>≤≥≠±×÷√∫∑∏∞^∈∉∪∩⊂→⇌+*/\u2212-")
_FUNCTIONS: Final = frozenset(
    ("sin", "cos", "tan", "cot", "ln", "log", "exp", "arctan", "arcsin", "arccos", "lim", "sqrt")
)


def same_figures(first: str, second: str) -> bool:
    """Say whether no number, operator or function of one text stands where the other has a different one.

    Meant for texts that are near-duplicates otherwise; texts in other words simply have no figures to compare.
    """
    ours, theirs = _tokens(first), _tokens(second)
    start = _common_prefix(ours, theirs)
    end = _common_prefix(ours[start:][::-1], theirs[start:][::-1])
    ours_rest, theirs_rest = ours[start : len(ours) - end], theirs[start : len(theirs) - end]
    if max(len(ours_rest), len(theirs_rest)) > LONGEST_ALIGNMENT_WORDS:
        return not _bags_conflict(ours_rest, theirs_rest)
    edge = max(EDGE_WORDS, round(EDGE_SHARE * min(len(ours), len(theirs))))
    last = min(len(ours), len(theirs)) - edge
    moved: Counter[str] = Counter()
    for place, mine, yours in _differences(ours_rest, theirs_rest):
        if mine and yours:
            if _conflict(mine, yours):
                return False
        elif edge <= start + place <= last:
            moved.update(_numbers(mine))
            moved.subtract(_numbers(yours))
    return not any(moved.values())


def figures_of(text: str) -> list[str]:
    """Return the numbers and operators of a canonical text, in order."""
    return [token for token in _TOKEN.findall(text) if token[0].isdigit() or token in _OPERATORS]


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(canonical(_PAGE_NUMBER.sub("", text.strip())))


def _common_prefix(first: Sequence[str], second: Sequence[str]) -> int:
    length = 0
    for mine, yours in zip(first, second, strict=False):
        if mine != yours:
            break
        length += 1
    return length


def _differences(first: list[str], second: list[str]) -> Iterator[tuple[int, list[str], list[str]]]:
    """Yield where the texts differ: place in the first text, its words there, the other's words there."""
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if tag != "equal":
            yield i1, first[i1:i2], second[j1:j2]


def _conflict(mine: list[str], yours: list[str]) -> bool:
    """Say whether two differing passages at the same place state different figures.

    A digit that stands where the other text has a letter is a misprint, not another number.
    """
    if len(mine) == len(yours) and any(_signs_conflict(a, b) for a, b in zip(mine, yours, strict=True)):
        return True
    ours, theirs = _compact(mine), _compact(yours)
    if len(ours) == len(theirs):
        return any(a != b and a.isdigit() and b.isdigit() for a, b in zip(ours, theirs, strict=True))
    our_digits, their_digits = _digits(ours), _digits(theirs)
    return bool(our_digits and their_digits) and our_digits != their_digits


def _signs_conflict(mine: str, yours: str) -> bool:
    return mine != yours and any(mine in signs and yours in signs for signs in (_OPERATORS, _FUNCTIONS))


def _compact(tokens: Sequence[str]) -> str:
    """Join words without signs and separators: typography of a number (3 000, 3000, 3.000) says nothing."""
    return "".join(character for token in tokens for character in token if character.isalnum())


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _numbers(tokens: Sequence[str]) -> list[str]:
    return [digits for token in tokens if (digits := _digits(token))]


def _bags_conflict(first: Sequence[str], second: Sequence[str]) -> bool:
    """Say whether each text has numbers that the other lacks."""
    ours = Counter(token for token in first if token[0].isdigit())
    theirs = Counter(token for token in second if token[0].isdigit())
    return bool(ours - theirs) and bool(theirs - ours)
