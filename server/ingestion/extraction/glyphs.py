"""The glyphs of a PDF page as they are drawn, with the text that the file gives for them.

pdfminer's own layout is left out: it takes vowel marks and raised letters of Arabic fonts for lines of their own.
Where a producer says what a group of glyphs stands for (/ActualText: LibreOffice, Chromium, Typst, Word), that counts,
because the glyphs' own map is then made up of leftovers ("ييشكل" for "يشكل").
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from itertools import pairwise
from math import atan2, hypot, pi
from pathlib import Path
from typing import Any

from pdfminer.pdfdevice import PDFTextDevice
from pdfminer.pdfdocument import PDFDocument
from pdfminer.pdffont import PDFFont, PDFUnicodeNotDefined
from pdfminer.pdfinterp import PDFPageInterpreter, PDFResourceManager
from pdfminer.pdfpage import PDFPage
from pdfminer.pdfparser import PDFParser
from pdfminer.utils import Matrix, decode_text

from server.ingestion.extraction.cleaning import clean

LONGEST_ACTUAL_TEXT = 40
"""A replacement longer than this stands for lines, not for a word: the glyphs keep their places instead."""
UNKNOWN = "\ufffd"
"""Text of a glyph that the file maps to no character."""
_NO_CHARACTER = re.compile("^(?:\\(cid:.*|[\u0000\ue000-\uf8ff\ufffc\ufffd]*)$")
Name = tuple[int, int]
GROUP = -1
"""The number of a group of glyphs that the file gives a text of its own."""


@dataclass(frozen=True, slots=True)
class Glyph:
    """A glyph: its text (UNKNOWN when the file names none), left and right edge, baseline and size in points.

    y grows upwards. `name` is its font and its number there. `quarter` counts the quarter turns of the line it stands
    on, against the clock; edges and baseline are those of the page turned upright.
    """

    text: str
    x0: float
    x1: float
    y: float
    size: float
    name: Name = (0, 0)
    quarter: int = 0

    @property
    def middle(self) -> float:
        """Where it stands in its line, in points."""
        return (self.x0 + self.x1) / 2


class GlyphReader:
    """pdfminer over one file."""

    def __init__(self, path: Path) -> None:
        resources = PDFResourceManager()
        self._device = _Device(resources)
        self._interpreter = PDFPageInterpreter(resources, self._device)
        try:
            self._pages = list(PDFPage.create_pages(PDFDocument(PDFParser(BytesIO(path.read_bytes())))))
        except Exception:  # noqa: BLE001 - pdfminer raises whatever a malformed file makes it trip over
            self._pages = []

    def read(self, number: int) -> list[Glyph] | None:
        """Return a page's glyphs in drawing order, or None when pdfminer cannot read it."""
        if number > len(self._pages):
            return None
        self._device.glyphs = []
        try:
            self._interpreter.process_page(self._pages[number - 1])
        except Exception:  # noqa: BLE001 - as above
            return None
        return list(_once(self._device.glyphs))


class _Device(PDFTextDevice):
    """Collects glyphs; a marked group with a text of its own becomes one glyph."""

    def __init__(self, resources: PDFResourceManager) -> None:
        super().__init__(resources)
        self.glyphs: list[Glyph] = []
        self._groups: list[tuple[str | None, int]] = []
        self._fonts: dict[int, PDFFont] = {}
        """Kept, so that no other font gets the identity of one that a glyph is named after."""

    def begin_page(self, page: PDFPage, ctm: Matrix) -> None:
        self._groups = []

    def begin_tag(self, tag: Any, props: Any = None) -> None:
        actual = props.get("ActualText") if isinstance(props, dict) else None
        self._groups.append((decode_text(actual) if isinstance(actual, bytes) else None, len(self.glyphs)))

    def end_tag(self) -> None:
        text, start = self._groups.pop() if self._groups else (None, 0)
        group = self.glyphs[start:]
        if text is not None and group and len(text) <= LONGEST_ACTUAL_TEXT and _on_one_line(group):
            self.glyphs[start:] = [_named(group, clean_glyph(text) if text else "")]

    def render_char(
        self,
        matrix: Matrix,
        font: PDFFont,
        fontsize: float,
        scaling: float,
        rise: float,
        cid: int,
        ncs: Any,
        graphicstate: Any,
    ) -> float:
        try:
            text = clean_glyph(font.to_unichr(cid))
        except PDFUnicodeNotDefined:
            text = UNKNOWN
        advance = font.char_width(cid) * fontsize * scaling
        a, b, c, d, x, y = matrix
        self._fonts.setdefault(id(font), font)
        quarter = round(atan2(b, a) / (pi / 2)) % 4
        x, y = x + c * rise, y + d * rise
        along, x, y = ((a, x, y), (b, y, -x), (-a, -x, -y), (-b, -y, x))[quarter]
        end = x + along * advance
        size = abs(fontsize) * hypot(c, d)
        self.glyphs.append(Glyph(text, min(x, end), max(x, end), y, size, (id(font), cid), quarter))
        return advance


@lru_cache(maxsize=4096)
def clean_glyph(text: str) -> str:
    """Return what a glyph stands for: plain letters for presentation forms, nothing for a tatweel or a bidi control."""
    if _NO_CHARACTER.match(text):
        return UNKNOWN
    return " " if text.isspace() else clean(text)


def _on_one_line(group: list[Glyph]) -> bool:
    size = max(glyph.size for glyph in group)
    heights = [glyph.y for glyph in group]
    return max(heights) - min(heights) <= size and len({glyph.quarter for glyph in group}) == 1


def _named(group: list[Glyph], text: str) -> Glyph:
    """Return the one glyph that a group stands for; a drawn ornament stands for nothing but takes its place."""
    widest = max(group, key=lambda glyph: glyph.x1 - glyph.x0)
    left, right = min(glyph.x0 for glyph in group), max(glyph.x1 for glyph in group)
    return replace(widest, text=text, x0=left, x1=right, name=(widest.name[0], GROUP))


def _once(glyphs: list[Glyph]) -> Iterator[Glyph]:
    """Leave out glyphs drawn over themselves, which some producers do to embolden."""
    yield from glyphs[:1]
    for before, glyph in pairwise(glyphs):
        near = abs(glyph.x0 - before.x0) < 0.1 * glyph.size and abs(glyph.y - before.y) < 0.1 * glyph.size
        if not (near and glyph.name == before.name and glyph.text == before.text and glyph.x1 > glyph.x0):
            yield glyph
