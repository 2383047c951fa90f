"""Cleaning of what extraction leaves behind, on top of the form that all stored text has. Pure."""

import re

from server.text.fold import clean as stored_form

_BROKEN_WORD = re.compile(r"[\u0002\ufffe]\r?\n?|[-\u2010\u2011]\r?\n(?=\w)")
"""A word divided at the end of a line. PDFium's sign for it is U+0002 or U+FFFE; WeasyPrint draws U+2010."""
_SOFT_HYPHEN = re.compile(r"\u00ad\r?\n?")
_COMPOUND_BEFORE = re.compile(
    r"(?:\d|[-\u2010]\w+|[’']est|\b(?:vingt|trente|quarante|cinquante|soixante|quatre|cent|non|sous|vice|demi|semi|peut"
    r"|celui|celle|ceux|celles|lui|elle|elles|eux|moi|toi|soi|nous|vous|grand|grands|nord|sud|est|ouest|au|par|Saint))$",
    re.IGNORECASE,
)
"""What ends in a hyphen of its own, wherever the line ends."""
_COMPOUND_AFTER = re.compile(r"(?:[A-ZÀ-ÖØ-Þ\d]|(?:ci|là|il|ils|elle|elles|on|je|tu|nous|vous|moi|ce|même|mêmes)\b)")
_LETTER = re.compile(r"[^\W_]")
_UNMAPPED = re.compile("[\ue000-\uf8ff\ufffc\ufffd\u0000]|\\(cid:\\d+\\)")
"""Glyphs that the file maps to no letter."""


def clean(text: str) -> str:
    """Return text in stored form, words divided at line ends whole again, unmapped glyphs and lone surrogates gone."""
    text = text.encode("utf-8", "ignore").decode()
    return stored_form(_UNMAPPED.sub("", _joined(_SOFT_HYPHEN.sub("", text))))


def _joined(text: str) -> str:
    """Return the text with the words whole that are divided at line ends, compound words with their hyphen."""

    def end(found: re.Match[str]) -> str:
        before, after = text[max(0, found.start() - 24) : found.start()], text[found.end() : found.end() + 12]
        if not _LETTER.match(before[-1:]) or not _LETTER.match(after[:1]):
            return "" if found[0][0] in "\u0002\ufffe" else found[0]
        return "-" if _COMPOUND_BEFORE.search(before) or _COMPOUND_AFTER.match(after) else ""

    return _BROKEN_WORD.sub(end, text)
