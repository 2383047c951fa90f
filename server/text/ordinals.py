"""Which one of several: "la troisième loi", "المعيار الثالث", "3e", and the words beside that name what is counted."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from server.text.fold import canonical
from server.text.stopwords import STOP_WORDS

_FRENCH: Final = "premier deuxieme troisieme quatrieme cinquieme sixieme septieme huitieme neuvieme dixieme"
_ARABIC: Final = "اول ثاني ثالث رابع خامس سادس سابع ثامن تاسع عاشر"
_HASSANIYA: Final = re.compile(
    r"(?:(l?ew?wel|l?[au]w?wal|elew?wel)|((?:e|el|et|al)?t?th?ani)|((?:e|el|et|al)?t?th?[ae]?l[aei]th?)"
    r"|((?:e|el|er|al)?r?rab[aei]?3))\Z"
)
"""One group a number; vowels and articles as anybody types them."""

_NUMBERS: Final = {
    **{word: number for number, word in enumerate(_FRENCH.split(), 1)},
    **{word: number for number, word in enumerate(_ARABIC.split(), 1)},
    **{f"{word}ه": number for number, word in enumerate(_ARABIC.split(), 1) if number > 2},
    **{f"{word}ا": number for number, word in enumerate(_ARABIC.split(), 1)},
    **{"premiere": 1, "second": 2, "اولي": 1, "حادي": 1, "حاديه": 1, "ثان": 2},
}
_ARTICLED: Final = {"ثانيه": 2, "seconde": 2}
"""Words that count only behind an article: "ثانية" and "seconde" are a length of time as well."""

_TEEN: Final = ("عشر", "عشره")
_TOKEN: Final = re.compile(r"[^\W_]+|[^\w\s]")
_DIGITS: Final = re.compile(r"(\d{1,2})(?:er|ere|e|eme|ieme|nd|nde)\Z")
_ARABIC_PREFIX: Final = re.compile(r"([وف])?([بلك]?ال|لل)?(?=\w{3})")
_NUMBERED: Final = re.compile(r"(?:(?<!\w)(?:l[ae]|n|no|numero) ?[°º]? ?|رقم ?)(\d{1,2})(?=\W*\Z|\s+[^\W\d])")


@dataclass(frozen=True, slots=True)
class Ordinal:
    """A place in a row, from 1, its canonical word and the content words on either side; none where it stands alone."""

    number: int
    word: str
    beside: tuple[str, ...]


def ordinals(text: str) -> list[Ordinal]:
    """Return the ordinals of a text, in order."""
    return list(_found(_TOKEN.findall(canonical(text))))


def numbers_asked(question: str) -> frozenset[int]:
    """Return which ones of several a question asks for: by ordinals or, where it has none, as in "la loi n° 3"."""
    found = {each.number for each in ordinals(question)}
    return frozenset(found or map(int, _NUMBERED.findall(canonical(question))))


def _found(tokens: list[str]) -> Iterator[Ordinal]:
    for place, token in enumerate(tokens):
        before = tokens[place - 1] if place else ""
        after = tokens[place + 1] if place + 1 < len(tokens) else ""
        joined = token[0] in "وف" and token not in _NUMBERS
        if number := _number(token, before):
            if after in _TEEN:
                number, after = number + 10, ""
            around = (after,) if joined or before in _TEEN else (before, after)
            yield Ordinal(number, token, tuple(word for word in around if word.isalpha() and word not in STOP_WORDS))


def _number(token: str, before: str) -> int:
    """Return the number that a canonical word stands for in a row, 0 for any other word."""
    if digits := _DIGITS.match(token):
        return int(digits[1])
    if token in _NUMBERS:
        return _NUMBERS[token]
    if token in _ARTICLED:
        return _ARTICLED[token] if before == "la" else 0
    if token.isascii():
        latin = _HASSANIYA.match(token)
        return latin.lastindex or 0 if latin else 0
    prefix = _ARABIC_PREFIX.match(token)
    bare = token[prefix.end() :].removesuffix("ها") if prefix else token
    return _NUMBERS.get(bare, _ARTICLED.get(bare, 0) if prefix and prefix[2] else 0)
