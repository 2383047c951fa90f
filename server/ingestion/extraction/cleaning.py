"""Cleaning of what extraction leaves behind, on top of the form that all stored text has. Pure."""

import re

from server.text.fold import clean as stored_form

_BROKEN_WORD = re.compile(r"[\u0002\ufffe\u00ad]\r?\n?")
"""PDFium's sign for a word divided at the end of a line (U+0002 or U+FFFE), and the soft hyphen."""
_HYPHEN_BREAK = re.compile(r"(?<=[a-zà-öø-ÿœ])-\n(?=[a-zà-öø-ÿœ])")
_UNMAPPED = re.compile("[\ue000-\uf8ff\ufffc\ufffd\u0000]|\\(cid:\\d+\\)")
"""Glyphs that the file maps to no letter."""


def clean(text: str) -> str:
    """Return text in stored form, words divided at line ends whole again, unmapped glyphs and lone surrogates gone."""
    text = text.encode("utf-8", "ignore").decode()
    text = _BROKEN_WORD.sub("", text)
    text = stored_form(_UNMAPPED.sub("", text))
    return _HYPHEN_BREAK.sub("", text)
