"""Glyphs in drawing order put together to pieces of lines, whatever the producer's order and way of parting words.

Producers differ: some draw a line from left to right, some in reading order, some word by word; some draw spaces, some
leave a gap; many Arabic fonts raise letters off the line, and vowel marks have no width. Pure.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from server.ingestion.extraction.glyphs import GROUP, Glyph
from server.ingestion.extraction.layout import Piece, grouped_in_rows
from server.ingestion.extraction.righttoleft import RIGHT_TO_LEFT, Unit

PIECE_GAP = 1.0
"""A wider gap, in em, parts pieces: a column, a cell of a table, a tab."""
STRETCHING_SHARE = 0.7
_JOINERS = " -–—/.:,،؛;'’_·•()[]"
"""What may stand between Arabic letters by right."""
PART_GAP = 0.25
"""The widest gap, in em, within an Arabic word that a stroke stretches."""
RUN_GAP = 0.2
"""A wider gap, in em, may be filled by what is drawn later."""
WORD_GAP = 0.15
WORD_GAP_BESIDE_SPACES = 0.4
"""The gap, in em, that parts words; on a page that draws its spaces only a gap between cells or after a label does."""
_DRAWN_SPACES_SHARE = 0.04
"""A page with a lower share of spaces among its glyphs leaves gaps between words."""
_BACK = 0.25
"""A letter may stand this far, in em, before the one drawn before it: Arabic fonts tuck letters under each other."""
_DESCENT, _ASCENT = 0.2, 0.7
NO_WIDTH = 0.01
"""In em: marks are drawn without moving on."""
_MARK_REACH = 0.6
"""How far a mark may stand from its letter, in em."""


def pieces(glyphs: Sequence[Glyph]) -> list[Piece]:
    """Return the pieces of lines on a page, or on the part of it that is turned one way."""
    glyphs = [glyph for glyph in glyphs if glyph.text or glyph.x1 - glyph.x0 > NO_WIDTH * glyph.size]
    backwards = _drawn_backwards(glyphs)
    letters = without_kashidas(_with_marks(glyphs, backwards=backwards))
    if not letters:
        return []
    runs = [_piece(run) for run in _runs(letters, backwards=backwards)]
    spaces = sum(glyph.text == " " for glyph in letters)
    gap = WORD_GAP_BESIDE_SPACES if spaces > _DRAWN_SPACES_SHARE * len(letters) else WORD_GAP
    return [piece for row in grouped_in_rows(runs) for piece in _merged(row, gap)]


def _marks(text: str) -> str:
    return "".join(character for character in text if unicodedata.category(character) == "Mn")


def _is_mark(glyphs: Sequence[Glyph], at: int) -> bool:
    """Say whether a glyph is a vowel mark; some producers give it the text of its letter as well.

    Where that text is the file's word for this one place (a group), the letter must stand beside it, too.
    """
    glyph = glyphs[at]
    marks = _marks(glyph.text)
    if not marks or marks == glyph.text:
        return bool(marks)
    narrow = glyph.x1 - glyph.x0 < NO_WIDTH * glyph.size
    letter = glyph.text.removesuffix(marks)
    if narrow and glyph.name[1] != GROUP:
        return True
    return narrow and any(other.text.startswith(letter) for other in (*glyphs[at - 1 : at], *glyphs[at + 1 : at + 2]))


def _with_marks(glyphs: Sequence[Glyph], *, backwards: bool) -> list[Glyph]:
    """Return the letters with their vowel marks: a mark is drawn beside its letter, on the side that is read later."""
    are_marks = [_is_mark(glyphs, at) for at in range(len(glyphs))]
    letters = [glyph for glyph, is_mark in zip(glyphs, are_marks, strict=True) if not is_mark]
    marks: dict[int, str] = {}
    place = 0
    for glyph, is_mark in zip(glyphs, are_marks, strict=True):
        if not is_mark:
            place += 1
            continue
        beside = (place - 1, place) if backwards else (place, place - 1)
        at = next((at for at in beside if 0 <= at < len(letters) and _carries(letters[at], glyph)), None)
        if at is not None and not _marks(letters[at].text):
            marks[at] = marks.get(at, "") + _marks(glyph.text)
    return [replace(letter, text=letter.text + marks.get(at, "")) for at, letter in enumerate(letters)]


def _carries(letter: Glyph, mark: Glyph) -> bool:
    distance = max(letter.x0 - mark.x0, mark.x0 - letter.x1)
    return letter.text != " " and distance < _MARK_REACH * letter.size and abs(mark.y - letter.y) < 1.5 * letter.size


def _drawn_backwards(letters: Sequence[Glyph]) -> bool:
    """Say whether a page's right-to-left letters follow each other in reading order: each left of the one before."""
    left = right = 0
    for before, glyph in pairwise(glyph for glyph in letters if glyph.text and _marks(glyph.text) != glyph.text):
        near = abs(glyph.middle - before.middle) < 2 * glyph.size and abs(glyph.y - before.y) < 0.5 * glyph.size
        if near and _right_to_left(before) and _right_to_left(glyph):
            left += glyph.middle < before.middle
            right += glyph.middle > before.middle
    return left > right


def _right_to_left(glyph: Glyph) -> bool:
    return Unit(glyph.text, 0.0).direction in RIGHT_TO_LEFT


def without_kashidas(letters: Sequence[Glyph]) -> list[Glyph]:
    """Silence the strokes that stretch Arabic words where a producer (LibreOffice 7) maps them to another character.

    Such a glyph only ever stands between two Arabic letters of its own font; a real one does not, nor does a
    sign between two unknowns of one letter.
    """
    foreign = {
        glyph.name for glyph in letters if glyph.text and glyph.text not in _JOINERS and not _right_to_left(glyph)
    }
    for name in list(foreign):
        places = [at for at, glyph in enumerate(letters) if glyph.name == name]
        if sum(_within_arabic_word(letters, at) for at in places) < STRETCHING_SHARE * len(places):
            foreign.discard(name)
    return [replace(glyph, text="") if glyph.name in foreign and glyph.name[0] else glyph for glyph in letters]


def _within_arabic_word(letters: Sequence[Glyph], at: int) -> bool:
    name = letters[at].name
    longer = False
    for step in (-1, 1):
        place = at + step
        while 0 <= place < len(letters) and letters[place].name == name:
            place += step
        if not 0 <= place < len(letters):
            return False
        beside, same = letters[place], letters[place - step]
        gap = max(beside.x0 - same.x1, same.x0 - beside.x1)
        longer = longer or (0 <= place + step < len(letters) and _right_to_left(letters[place + step]))
        if not _right_to_left(beside) or beside.name[0] != name[0] or gap > PART_GAP * beside.size:
            return False
    return longer


def _runs(letters: Sequence[Glyph], *, backwards: bool) -> Iterator[list[Glyph]]:
    """Yield the glyphs that are drawn one after the other from left to right, without a gap, on one line."""
    run: list[Glyph] = []
    for glyph in letters:
        if run and not _follows(run[-1], glyph, backwards=backwards):
            yield run
            run = []
        run.append(glyph)
    yield run


def _follows(before: Glyph, glyph: Glyph, *, backwards: bool) -> bool:
    size = max(before.size, glyph.size)
    if abs(before.y - glyph.y) > 0.7 * size or glyph.x0 - before.x1 > RUN_GAP * size:
        return False
    if backwards:
        return glyph.middle > before.middle
    return glyph.middle >= before.middle - _BACK * size and glyph.x1 > before.x0 + 0.05 * size


def _piece(run: Sequence[Glyph]) -> Piece:
    """Return a run as a piece; its height is that of its widest glyph's line, not of raised letters."""
    main = max(run, key=lambda glyph: glyph.x1 - glyph.x0)
    units = tuple(Unit(glyph.text, glyph.x0, glyph.x1) for glyph in run)
    bottom, top = main.y - _DESCENT * main.size, main.y + _ASCENT * main.size
    return Piece(units, min(glyph.x0 for glyph in run), bottom, max(glyph.x1 for glyph in run), top)


def _merged(row: Sequence[Piece], word_gap: float) -> Iterator[Piece]:
    """Join what stands close together on one line, and set spaces into the gaps between words."""
    joined: Piece | None = None
    for piece in sorted(row, key=lambda piece: piece.units[0].x + piece.units[0].end):
        size = (piece.y1 - piece.y0) / (_ASCENT + _DESCENT)
        if joined is not None and piece.x0 - joined.x1 <= PIECE_GAP * size:
            joined = _beside(joined, piece)
        else:
            if joined is not None:
                yield _spaced(joined, word_gap)
            joined = piece
    if joined is not None:
        yield _spaced(joined, word_gap)


def _beside(left: Piece, right: Piece) -> Piece:
    wide = left if left.x1 - left.x0 >= right.x1 - right.x0 else right
    units = left.units + right.units
    if left.x1 - right.x0 > RUN_GAP * (wide.y1 - wide.y0):
        units = tuple(sorted(units, key=lambda unit: unit.x + unit.end))
    return Piece(units, min(left.x0, right.x0), wide.y0, max(left.x1, right.x1), wide.y1)


def _spaced(piece: Piece, word_gap: float) -> Piece:
    size = (piece.y1 - piece.y0) / (_ASCENT + _DESCENT)
    units: list[Unit] = []
    reach = piece.units[0].end
    for unit in piece.units:
        if units and unit.x - reach > word_gap * size and " " not in (unit.text, units[-1].text):
            units.append(Unit(" ", reach, unit.x))
        units.append(unit)
        reach = max(reach, unit.end)
    return replace(piece, units=tuple(units))
