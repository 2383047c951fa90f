"""Which sentences of the sources answer a question best."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count, takewhile
from typing import Final

import numpy as np

from server.models.local.candidates import candidates
from server.models.local.judging import Statement, asks_row, judged
from server.models.port import Source
from server.text.fold import canonical
from server.text.nearduplicate import Shingles, same_figures, shingles

WORTH_QUOTING: Final = 0.75
"""Share of the best sentence's score that a further sentence must reach."""

SAME_STATEMENT_SHARE: Final = 0.75
"""Of the shorter sentence's character 4-grams: with so many in common, two sentences say the same."""

ROW_EXTRA: Final = 2
"""So many quotations more where a row is asked for ("the laws of Newton") and the texts number it."""

ROW_WORTH: Final = 0.3
"""Share of the best sentence's score for the first of a row; the others need not repeat what the row is of."""

_INSTRUCTS: Final = re.compile(
    r"(?:\d{1,2} ?[.)-] ?)?(?:calculer|determiner|trouver|montrer|demontrer|prouver|verifier|exprimer|expliquer|deduire"
    r"|definir|enoncer|citer|donner|decrire|comparer|justifier|interpreter|resoudre|etudier|tracer|representer)\b"
    r"|\d{1,2} ?[.)-] ?(?:احسب|اشرح|علل|اذكر|حدد|قارن|عرف|بين|برهن|استنتج|حلل|ارسم|اوجد|اعط|فسر|ناقش)\b"
)
"""An exercise that asks for what the student asks: no answer."""


def choose(asked: str, sources: Sequence[Source], limit: int, earlier: str = "") -> list[Statement]:
    """Return the sentences worth quoting, best first; one said by several sources names one of each title and page.

    `earlier` is the question that `asked` follows. A row that is asked for ("les lois de Newton") is told in its order.
    """
    statements = [
        each
        for group in candidates(asked, sources, earlier)
        for each in judged(asked, earlier, group)
        if not _INSTRUCTS.match(canonical(each.text))
    ]
    statements.sort(key=lambda each: -each.score - each.lead)
    best = max((each.score for each in statements), default=0.0)
    if asks_row(asked) and (row := _row(statements, sources, ROW_WORTH * best)):
        return row[: limit + ROW_EXTRA]
    origins = {source.number: (source.title, source.page) for source in sources}
    chosen: list[Statement] = []
    for statement in statements:
        if statement.score + statement.lead < WORTH_QUOTING * best:
            continue
        twin = _twin(statement, chosen)
        if twin is not None:
            chosen[twin] = _joined(chosen[twin], statement, origins)
        elif len(chosen) < limit:
            chosen.append(statement)
    return chosen


def _row(statements: Sequence[Statement], sources: Sequence[Source], least: float) -> list[Statement]:
    """Return the best statement of each place in order, from a first one that is worth `least` on, of its document.

    Nothing when fewer than two are told.
    """
    titles = {source.number: source.title for source in sources}
    first = next((each for each in statements if each.place == 1 and each.score >= least), None)
    best: dict[int, Statement] = {}
    for statement in statements:
        if first and statement.place and titles[statement.numbers[0]] == titles[first.numbers[0]]:
            best.setdefault(statement.place, statement)
    row = [best[place] for place in takewhile(best.__contains__, count(1))]
    return row if len(row) > 1 else []


def _twin(statement: Statement, chosen: Sequence[Statement]) -> int | None:
    """Return which chosen sentence says the same: one is a copy of the other, or a cut of it, with the same figures."""
    grams = shingles(statement.text)
    for place, other in enumerate(chosen):
        if _shared(grams, shingles(other.text)) >= SAME_STATEMENT_SHARE and same_figures(statement.text, other.text):
            return place
    return None


def _shared(first: Shingles, second: Shingles) -> float:
    shorter = min(len(first), len(second))
    return len(np.intersect1d(first, second, assume_unique=True)) / shorter if shorter else 0.0


def _joined(chosen: Statement, twin: Statement, origins: Mapping[int, object]) -> Statement:
    """Return a chosen sentence with its twin's sources, one of each origin; instead of a cut the whole is quoted."""
    quoted = twin if canonical(chosen.text) in canonical(twin.text) else chosen
    first_of = {origins[number]: number for number in reversed((*quoted.numbers, *chosen.numbers, *twin.numbers))}
    numbers = sorted(first_of.values(), key=lambda number: number not in quoted.numbers)
    return replace(chosen, text=quoted.text, numbers=tuple(numbers))
