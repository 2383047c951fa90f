"""Reading order of a page's pieces of lines: columns, rows, and the direction within a row.

A recursive cut at the widest white gap (XY-cut: Nagy and Seth, 1984): columns first, because two columns of equal
paragraphs also have horizontal gaps in common, then bands. Pure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from server.ingestion.extraction.righttoleft import Unit

MIN_COLUMN_PIECES = 4
"""A side with fewer pieces of lines is no column but a margin note, a table cell or a formula."""
MIN_COLUMN_GAP = 8.0
"""Narrowest gap between columns, in points."""
MIN_SHARED_HEIGHT = 0.3
"""Pieces on one line share at least so much of the lower one's height."""


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
    for row in grouped_in_rows(pieces):
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


def grouped_in_rows(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Group pieces that stand on one line, top line first; the widest piece says where a line is.

    Raised letters, indices and words of another font reach into the line by less than its height.
    """
    lines: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda piece: piece.x0 - piece.x1):
        line = max(lines, key=lambda line: _shared(line[0], piece), default=None)
        if line is not None and _shared(line[0], piece) > MIN_SHARED_HEIGHT:
            line.append(piece)
        else:
            lines.append([piece])
    return sorted(lines, key=lambda line: -(line[0].y0 + line[0].y1))


def _shared(first: Piece, second: Piece) -> float:
    """Return the share of the lower piece's height that both have in common."""
    shared = min(first.y1, second.y1) - max(first.y0, second.y0)
    return shared / max(0.01, min(first.y1 - first.y0, second.y1 - second.y0))


def _joined(line: list[Piece]) -> tuple[Unit, ...]:
    """Return the units of one line from left to right, pieces parted by a tab: each is read for itself."""
    units: list[Unit] = []
    for piece in sorted(line, key=lambda piece: piece.x0):
        if units:
            units.append(Unit("\t", piece.x0))
        units.extend(piece.units)
    return tuple(units)
