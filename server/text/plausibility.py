"""How likely the letters of a text are as French or Arabic: bits per letter under a letter-trigram model per script.

Real pages stay under 3.6 bits in either script; reversed words, wrong character maps and shuffled letters need more
than 5. How the tables were made: `data/README.md`.
"""

import re
from functools import cache
from importlib.resources import as_file, files
from typing import Final

import numpy as np
from numpy.typing import NDArray

ALPHABETS: Final = {
    "arabic": "ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىي",
    "latin": "abcdefghijklmnopqrstuvwxyzàâçéèêëîïôùûüœ",
}
LEVELS_PER_BIT: Final = 16
"""Tables hold bits times 16 as bytes: at most 15.9 bits a letter."""

_DISTINCT_CODES: Final = 0x250 + 0x100
_ARABIC_BLOCK: Final = 0x600
_VOWELS: Final = re.compile("[\u0610-\u061a\u0640\u064b-\u0652\u0670]+")


@cache
def _letter_numbers(script: str) -> NDArray[np.int32]:
    """Map code points (Latin up to U+024F, then the Arabic block) to 1.., everything else to 0."""
    numbers = np.zeros(_DISTINCT_CODES, dtype=np.int32)
    for number, letter in enumerate(ALPHABETS[script], 1):
        numbers[_place(ord(letter))] = number
    return numbers


def _place(code: int) -> int:
    return code if code < 0x250 else 0x250 + code - _ARABIC_BLOCK


def trigrams(text: str, script: str) -> NDArray[np.intp]:
    """Return the table places of the letter trigrams of a text's words, word ends included, with repetitions."""
    codes = np.frombuffer(_VOWELS.sub("", f" {text.lower()} ").encode("utf-32-le", "replace"), dtype=np.uint32).astype(
        np.int64
    )
    arabic = (codes >= _ARABIC_BLOCK) & (codes < _ARABIC_BLOCK + 0x100)
    places = np.where(arabic, codes - _ARABIC_BLOCK + 0x250, np.where(codes < 0x250, codes, 0))
    letters = _letter_numbers(script)[places]
    size = len(ALPHABETS[script]) + 1
    before, middle, after = letters[:-2], letters[1:-1], letters[2:]
    return np.asarray(((before * size + middle) * size + after)[middle > 0], dtype=np.intp)


@cache
def _bits(script: str) -> NDArray[np.float32]:
    with as_file(files("server.text") / "data" / "trigrams.npz") as path, np.load(path) as stored:
        return np.asarray(stored[script].astype(np.float32) / LEVELS_PER_BIT)


def bits_per_letter(text: str, script: str) -> float:
    """Return the mean surprise of a text's letters in `script` ("arabic" or "latin"); 0 when it has none of them."""
    found = trigrams(text, script)
    return float(_bits(script)[found].mean()) if len(found) else 0.0
