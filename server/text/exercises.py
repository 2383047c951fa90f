"""Is a page that says the same few words a sheet of exercises of one template, or a text that repeats itself?

Exercises of one template differ in their figures, and not by counting on: a page number or a running number grows by
one from line to line, the givens of exercises do not.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from server.text.figures import figures_of
from server.text.fold import canonical

LEAST_SHARE: Final = 0.3
"""Of a page's words stand in sentences whose figures vary; the rest are instructions that every exercise repeats."""
FEWEST_ALIKE: Final = 3
"""So many sentences of one wording with different figures make a template."""
COUNTING_SHARE: Final = 0.7

_SENTENCE: Final = re.compile(r"[.!?؟;؛](?=\s)|\n")
_WORD: Final = re.compile(r"[^\W\d_]+")


def is_sheet(text: str) -> bool:
    """Say whether at least LEAST_SHARE of the words stand in sentences of a template with figures that vary."""
    sentences = [canonical(sentence) for sentence in _SENTENCE.split(text)]
    templates: dict[tuple[str, ...], list[list[str]]] = defaultdict(list)
    for sentence in sentences:
        if found := figures_of(sentence):
            templates[tuple(_WORD.findall(sentence))].append(found)
    words = sum(len(_WORD.findall(sentence)) for sentence in sentences)
    varied = sum(len(wording) * len(rows) for wording, rows in templates.items() if _givens_vary(rows))
    return varied >= LEAST_SHARE * max(1, words)


def _givens_vary(rows: Sequence[Sequence[str]]) -> bool:
    if len(rows) < FEWEST_ALIKE:
        return False
    columns = zip(*rows, strict=False)
    return any(len(set(column)) >= FEWEST_ALIKE and not _counts_on(column) for column in columns)


def _counts_on(column: Sequence[str]) -> bool:
    """Say whether numbers grow by one from each to the next, as those of pages and exercises do."""
    if not all(value.isdigit() for value in column):
        return False
    steps = [int(after) - int(before) for before, after in pairwise(column)]
    return sum(step == 1 for step in steps) >= COUNTING_SHARE * len(steps)
