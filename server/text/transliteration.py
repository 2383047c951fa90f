"""Consonant skeletons: Hassaniya in Latin letters ("etta9a") meets Arabic words ("الطاقة").

Chat spelling writes emphatic and plain consonants alike and vowels at will; what both scripts keep is the order of the
consonants. Digits stand for letters as everywhere in Maghreb chat: 3 ع, 4 ذ, 5 خ, 6 ط, 7 ح, 9 ق.
"""

import re
from typing import Final

SHORTEST_SKELETON: Final = 3
"""Two consonants fit too many words to be trusted."""

_DIGRAPHS: Final = {"ch": "ش", "sh": "ش", "kh": "خ", "gh": "غ", "th": "ت", "dh": "د", "ph": "ف", "qu": "ك"}
_LETTERS: Final = {
    **dict(zip("btjdrzsfvqklmnhgpcx", "بتجدرزسففقكلمنهقبكس", strict=True)),
    **dict(zip("3456789", "عدختحغق", strict=True)),
}
_LATIN_ARTICLE: Final = re.compile(r"^(?:(?:e|a)?l(?=[^aeiouyl])|e(?=(.)\1)|e(?=(ch|dh|th)\2))")
_LATIN_UNIT: Final = re.compile("|".join((*_DIGRAPHS, ".")))
_ARABIC_SOUNDS: Final = str.maketrans("طصضظذثگ", "تسدددتق", "اأإآوؤيئىةء")
_ARABIC_ARTICLE: Final = re.compile("^[وف]?(?:ال|لل|بال|كال)(?=.{3})")
_REPEATED: Final = re.compile(r"(.)\1+")


def skeleton(word: str) -> str:
    """Return the consonants of a canonical word in either script, as Arabic letters."""
    return latin_skeleton(word) if word.isascii() else arabic_skeleton(word)


def latin_skeleton(word: str) -> str:
    """Return the consonants of a Latin-letter word as Arabic letters, article and repetition removed."""
    word = _LATIN_ARTICLE.sub("", word)
    consonants = (_DIGRAPHS.get(unit, _LETTERS.get(unit, "")) for unit in _LATIN_UNIT.findall(word))
    return _trim("".join(consonants))


def arabic_skeleton(word: str) -> str:
    """Return the consonants of a canonical Arabic word, article and repetition removed."""
    bare = _ARABIC_ARTICLE.sub("", word)
    return _trim((bare[:-1] if bare.endswith("ه") else bare).translate(_ARABIC_SOUNDS))


def _trim(consonants: str) -> str:
    return _REPEATED.sub(r"\1", consonants).removesuffix("ه")
