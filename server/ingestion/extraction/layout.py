"""Reading order of a page's pieces of lines: columns, rows, and the direction within a row.

A recursive cut at the widest white gap (XY-cut: Nagy and Seth, 1984): columns first, because two columns of equal
paragraphs also have horizontal gaps in common, then bands. Pure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from server.ingestion.extraction.righttoleft import Unit, mostly_right_to_left

MIN_COLUMN_PIECES = 4
"""A side with fewer pieces of lines is no column but a margin note, a table cell or a formula."""
MIN_COLUMN_GAP = 8.0
"""Narrowest gap between columns, in points."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a line with its box in points; y grows upwards as in PDF."""

    units: tuple[Unit, ...]
    x0: float
    y0: float
    x1: float
    y1: float


def rows(pieces: Sequence[Piece], *, right_to_left: bool) -> Iterator[tuple[Unit, ...]]:
    """Yield the page's lines in reading order, each as its units in drawing order from left to right."""
    if not pieces:
        return
    columns = _columns(pieces)
    if len(columns) > 1:
        for column in reversed(columns) if right_to_left else columns:
            yield from rows(column, right_to_left=right_to_left)
        return
    bands = _bands(pieces)
    if len(bands) > 1:
        for band in bands:
            yield from rows(band, right_to_left=right_to_left)
        return
    for row in _lines(pieces):
        yield _joined(row)


def _columns(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Split at the widest vertical gap that leaves a real column on both sides; one list when there is none."""
    ordered = sorted(pieces, key=lambda piece: piece.x0)
    best_gap, best_at = MIN_COLUMN_GAP, 0
    reach = ordered[0].x1
    for at, piece in enumerate(ordered[1:], start=1):
        gap = piece.x0 - reach
        if gap > best_gap and min(at, len(ordered) - at) >= MIN_COLUMN_PIECES:
            best_gap, best_at = gap, at
        reach = max(reach, piece.x1)
    return [ordered[:best_at], ordered[best_at:]] if best_at else [ordered]


def _bands(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Split at the highest horizontal gap, top band first, but only while a column can appear by it."""
    if len(pieces) < 2 * MIN_COLUMN_PIECES:
        return [list(pieces)]
    ordered = sorted(pieces, key=lambda piece: -piece.y1)
    gaps: list[tuple[float, int]] = []
    bottom = ordered[0].y0
    for at, piece in enumerate(ordered[1:], start=1):
        if bottom > piece.y1:
            gaps.append((bottom - piece.y1, at))
        bottom = min(bottom, piece.y0)
    for _, at in sorted(gaps, reverse=True):
        if len(_columns(ordered[:at])) > 1 or len(_columns(ordered[at:])) > 1:
            return [ordered[:at], ordered[at:]]
    return [list(pieces)]


def _lines(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Group pieces that stand on one line, top line first: those whose heights overlap by half."""
    line: list[Piece] = []
    for piece in sorted(pieces, key=lambda piece: -(piece.y0 + piece.y1)):
        if line and not _beside(line[0], piece):
            yield line
            line = []
        line.append(piece)
    if line:
        yield line


def _beside(first: Piece, second: Piece) -> bool:
    shared = min(first.y1, second.y1) - max(first.y0, second.y0)
    return shared > 0.5 * min(first.y1 - first.y0, second.y1 - second.y0)


def _joined(line: list[Piece]) -> tuple[Unit, ...]:
    """Return the units of one line from left to right, pieces parted by a space."""
    units: list[Unit] = []
    for piece in sorted(line, key=lambda piece: piece.x0):
        if units:
            units.append(Unit(" ", piece.x0))
        units.extend(_from_left(piece.units))
    return tuple(units)


def _from_left(units: tuple[Unit, ...]) -> list[Unit]:
    """Return a piece's units from left to right, also where the producer drew it in reading order.

    A mark has no place of its own in that case: it stays with the letter drawn before it.
    """
    if not mostly_right_to_left(units) or units[0].x <= units[-1].x:
        return list(units)
    letters: list[Unit] = []
    for unit in units:
        if letters and unit.direction == "NSM":
            letters[-1] = Unit(letters[-1].text + unit.text, letters[-1].x)
        else:
            letters.append(unit)
    return sorted(letters, key=lambda unit: unit.x)
