"""PDF pages: PDFium for Latin script, pdfminer with our own reading order for Arabic, Tesseract for the rest."""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pypdfium2

from server.ingestion.extraction import layout, lines, ocr, righttoleft, textlayer
from server.ingestion.extraction.cleaning import clean
from server.ingestion.extraction.glyphs import Glyph, GlyphReader
from server.ingestion.extraction.page import ExtractionFailed, Failure, Limits, Method, Page
from server.ingestion.extraction.unmapped import Unmapped
from server.text import pagequality

_LIGATURES = ("ff", "fi", "fl", "ffi", "ffl")
ARABIC_SHARE = 0.2
"""From this share of Arabic letters on, a page is read in right-to-left order."""
LATIN_SHARE = 0.02
TELLING_CHARACTERS = 200
"""A scan with at least so many characters, nearly none of them Arabic, is French."""
SAMPLE_PAGES = 40
OCR_DPI = 200
OCR_MAX_PIXELS = 25_000_000
_POINTS_PER_INCH = 72
_CORK_ENCODING = dict(enumerate(("“", "”", "„", "«", "»", "–", "—", "", "", "ı", "", *_LIGATURES), start=0x10))
"""The control range of TeX's T1 encoding (Cork, 1990)."""
_CORK_OE = re.compile("÷(?=[uisd][a-z])")
"""Its œ, where a division sign makes no sense."""


class PdfFile:
    """An open PDF. `language` ('' when unknown) helps OCR."""

    def __init__(self, path: Path, limits: Limits, language: str = "") -> None:
        """Open the file. Raises ExtractionFailed when it is encrypted, broken or too long."""
        self._path = path
        self._language = language
        self._seen = ""
        self._glyphs: GlyphReader | None = None
        self._unmapped = Unmapped()
        self._map_is_broken = False
        try:
            self._document = pypdfium2.PdfDocument(path)
        except pypdfium2.PdfiumError as error:
            if "password" in str(error).lower() or "security" in str(error).lower():
                raise ExtractionFailed(Failure.ENCRYPTED, "the file opens with a password only") from error
            raise ExtractionFailed(Failure.BROKEN_FILE, "the file cannot be opened as a PDF") from error
        self.page_count = len(self._document)
        if self.page_count > limits.pages:
            raise ExtractionFailed(Failure.TOO_MANY_PAGES, f"{self.page_count} pages, {limits.pages} allowed")
        if self.page_count == 0:
            raise ExtractionFailed(Failure.BROKEN_FILE, "no pages")

    def pages(self, first: int = 1) -> Iterator[Page]:
        """Yield the pages from number `first` on, in order; an unreadable one is an empty page.

        A broken character map shows on every page, if thinly: so a few are read before the first is judged.
        """
        read = [self._digital(number) for number in range(1, min(SAMPLE_PAGES, self.page_count) + 1)]
        sample = [self._resolved(page) for page in read]
        self._map_is_broken = pagequality.map_is_broken(page.text for page in sample)
        for number in range(first, self.page_count + 1):
            digital = sample[number - 1] if number <= len(sample) else self._resolved(self._digital(number))
            yield digital if self._good(digital) else self._better(digital, self._recognised(number))

    def _digital(self, number: int) -> Page:
        """Read the text layer of a page, Arabic in reading order."""
        try:
            with closing(self._document[number - 1]) as page:
                text = textlayer.read(page)
        except pypdfium2.PdfiumError:
            return Page(number, "", Method.TEXT_LAYER)
        if arabic_share(text) < ARABIC_SHARE:
            return Page(number, printed(text), Method.TEXT_LAYER)
        if self._glyphs is None:
            self._glyphs = GlyphReader(self._path)
        glyphs = self._glyphs.read(number)
        if glyphs is None:
            return Page(number, printed(text), Method.TEXT_LAYER)
        text = clean(_in_reading_order(self._unmapped.hold(glyphs)))
        return Page(number, self._unmapped.learn(text), Method.REORDERED)

    def _resolved(self, page: Page) -> Page:
        """Return a page with the letters that its fonts leave unnamed."""
        return replace(page, text=self._unmapped.resolve(page.text)) if page.method is Method.REORDERED else page

    def _good(self, page: Page) -> bool:
        """Say whether a text layer is good enough to be used without looking at the picture of the page."""
        quality = pagequality.inspect(page.text)
        if quality.wants_ocr or self._distrusted(page):
            return False
        return quality.fault is not pagequality.Fault.SHORT or not self._shows_picture(page.number)

    def _distrusted(self, page: Page) -> bool:
        """Say whether a page's letters went through a character map that other pages show to be broken."""
        return self._map_is_broken and arabic_share(page.text) >= ARABIC_SHARE

    def _shows_picture(self, number: int) -> bool:
        """Say whether a page has an image: with few words beside it, it may be a stamped scan."""
        with closing(self._document[number - 1]) as page:
            images = page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE], max_depth=2)
            return next(iter(images), None) is not None

    def _recognised(self, number: int) -> Page | None:
        try:
            with closing(self._document[number - 1]) as page:
                if next(iter(page.get_objects(max_depth=1)), None) is None:
                    return None
                found = self._read_picture(_picture(page))
        except (ocr.Unreadable, pypdfium2.PdfiumError):
            return None
        return Page(number, clean(found.text), Method.OCR, round(found.confidence, 1))

    def _read_picture(self, picture: bytes) -> ocr.Recognised:
        """Read a page's picture. Where the language is unknown, the pages before it tell.

        With Arabic among its languages Tesseract reads the right one of two columns first, on French pages as well.
        """
        found = ocr.recognise(picture, self._language or self._seen)
        if self._language:
            return found
        if self._seen and found.confidence < pagequality.LEAST_OCR_CONFIDENCE:
            self._seen = ""
            return max(found, ocr.recognise(picture), key=lambda read: read.confidence)
        if not self._seen and arabic_share(found.text) < LATIN_SHARE and len(found.text) >= TELLING_CHARACTERS:
            self._seen = "fr"
            return ocr.recognise(picture, self._seen)
        return found

    def _better(self, digital: Page, recognised: Page | None) -> Page:
        """Choose between two readings of a page: the valid one, else the one that reads more."""
        if recognised is None:
            return digital
        if self._distrusted(digital):
            return recognised
        if pagequality.inspect(recognised.text, ocr_confidence=recognised.confidence).valid:
            return recognised
        return recognised if len(recognised.text) > len(digital.text) else digital


def printed(text: str) -> str:
    """Clean PDFium's text. Fonts of TeX without a character map show their own codes: ligatures, dashes and œ."""
    return clean(_CORK_OE.sub("œ", text.translate(_CORK_ENCODING)))


def arabic_share(text: str) -> float:
    """Return the share of Arabic letters among all letters, 0 to 1."""
    letters = sum(character.isalpha() for character in text)
    arabic = sum("\u0600" <= character <= "\u06ff" or "\ufb50" <= character <= "\ufeff" for character in text)
    return min(1.0, arabic / letters) if letters else 0.0


def _in_reading_order(glyphs: Sequence[Glyph]) -> str:
    """Return the text of a right-to-left page. What stands across the page comes after what stands upright."""
    turned: dict[int, list[Glyph]] = {}
    for glyph in glyphs:
        turned.setdefault(glyph.quarter, []).append(glyph)
    parts = [lines.pieces(turned[quarter]) for quarter in sorted(turned)]
    text = _text(parts, mirrored=False)
    return _text(parts, mirrored=True) if righttoleft.brackets_are_mirrored(text) else text


def _text(parts: Sequence[Sequence[layout.Piece]], *, mirrored: bool) -> str:
    rows = (row for part in parts for row in layout.rows(part, right_to_left=True))
    return "\n".join(righttoleft.reading_order(row, mirrored=mirrored) for row in rows)


def _picture(page: pypdfium2.PdfPage) -> bytes:
    """Render a page in grey as a PGM file, at OCR_DPI unless that passes OCR_MAX_PIXELS."""
    width, height = page.get_size()
    scale = OCR_DPI / _POINTS_PER_INCH
    scale *= min(1.0, (OCR_MAX_PIXELS / max(1.0, width * height * scale * scale)) ** 0.5)
    bitmap = page.render(scale=scale, grayscale=True)
    pixels = np.ascontiguousarray(bitmap.to_numpy().reshape(bitmap.height, bitmap.width))
    return b"P5 %d %d 255\n" % (bitmap.width, bitmap.height) + pixels.tobytes()
