"""Hassaniya in Latin letters ("etta9a") meets Arabic words ("الطاقة"): by consonants, or by likely spellings.

Chat spelling writes emphatic and plain consonants alike and vowels at will; what both scripts keep is the order of the
consonants. Digits stand for letters as everywhere in Maghreb chat: 3 ع, 4 ذ, 5 خ, 6 ط, 7 ح, 9 ق. Arabic writes long
vowels only, and whether a vowel is long mostly shows from its syllable.
"""

import re
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import islice
from typing import Final

SHORTEST_SKELETON: Final = 3
"""Two consonants fit too many words to be trusted."""

SPELLINGS: Final = 8
"""Of a word, likeliest first: they hold the right stem of six words in seven (`evals`, crosslingual)."""

LONGEST_SPELLED: Final = 24
"""Letters of a word that are spelled; longer ones are no words."""

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
_DOUBLED: Final = re.compile(r"(?P<one>[^\W\d_aeiou]|[ckgtds]h)(?P=one)+")
_SOUND: Final = re.compile(
    r"[ckgtdsp]h|qu|(?P<hamza>(?:ou|[aiu])2(?=[aeiou]))|(?P<vowel>ou|oo|aa|ee|ii|a[iy]|ey|[aeiou])(?P<short>:)?|."
)
_CONSONANTS: Final = {
    **dict(zip("bjrfvqklmnpxwy356789", "بجرففقكلمنبكويعخطحغق", strict=True)),
    **{"ch": "ش", "sh": "ش", "kh": "خ", "gh": "غ", "ph": "ف", "qu": "ك", "th": "ثت", "dh": "ذظضد", "t": "تط"},
    **{"d": "دضذ", "s": "سص", "z": "زظ", "h": "هح", "g": "قكغ", "c": "كس", "4": "ذ"},
}
_LONG: Final = {
    **dict.fromkeys(("a", "aa"), "ا"),
    **dict.fromkeys(("i", "ii", "ee", "ey"), "ي"),
    **dict.fromkeys(("o", "u", "ou", "oo"), "و"),
}


def without_article(word: str) -> str:
    """Return a Latin-letter word without the Arabic article."""
    return _LATIN_ARTICLE.sub("", word)


def skeleton(word: str) -> str:
    """Return the consonants of a canonical word in either script, as Arabic letters."""
    return latin_skeleton(word) if word.isascii() else arabic_skeleton(word)


def latin_skeleton(word: str) -> str:
    """Return the consonants of a Latin-letter word as Arabic letters, article and repetition removed."""
    word = without_article(word)
    consonants = (_DIGRAPHS.get(unit, _LETTERS.get(unit, "")) for unit in _LATIN_UNIT.findall(word))
    return _trim("".join(consonants))


def arabic_skeleton(word: str) -> str:
    """Return the consonants of a canonical Arabic word, article and repetition removed."""
    bare = _ARABIC_ARTICLE.sub("", word)
    return _trim((bare[:-1] if bare.endswith("ه") else bare).translate(_ARABIC_SOUNDS))


def spellings(word: str) -> list[str]:
    """Return the likely Arabic spellings of a Latin-letter word without its article, likeliest first, canonical."""
    # A colon marks a vowel before a doubled consonant, which is short.
    single = _DOUBLED.sub(r":\g<one>", without_article(word[:LONGEST_SPELLED])).removeprefix(":")
    sounds = list(_SOUND.finditer(single))
    choices = [_choices(sounds, place) for place in range(len(sounds))]
    return list(dict.fromkeys(islice(_combined(choices), SPELLINGS)))


def _choices(sounds: Sequence[re.Match[str]], place: int) -> Sequence[str]:
    """Return how Arabic may write a sound, likeliest first."""
    sound = sounds[place]
    if sound["hamza"]:
        return {"a": "ا", "i": "ي"}.get(sound["hamza"][0], "و")
    vowel = sound["vowel"]
    if vowel is None:
        return ("ا", "", "ي") if sound[0] == "2" else _CONSONANTS.get(sound[0], ("",))
    if place == 0:
        return ("ا", "") if vowel in ("a", "e") else ("ا", f"ا{_LONG.get(vowel, 'ي')}")
    following = [each["vowel"] is None for each in sounds[place + 1 : place + 3]]
    if not following:
        return ("ه" if vowel in ("a", "e") else _LONG.get(vowel, "اي"),)
    if vowel == "e":
        return ("",)
    if vowel in ("ay", "ai"):
        return ("ي", "اي")
    if vowel in ("ey", "aa", "ee", "ii", "oo"):
        return (_LONG[vowel],)
    closed = sound["short"] is not None or following == [True, True]
    long_first = not closed and (vowel == "a" or following == [True])
    return (_LONG[vowel], "") if long_first else ("", _LONG[vowel])


def _combined(choices: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield one choice of each in every combination, those with the fewest and smallest departures first."""
    waiting = [(0, (0,) * len(choices))]
    met = set(waiting)
    while waiting:
        departures, picked = heappop(waiting)
        yield "".join(each[pick] for each, pick in zip(choices, picked, strict=True))
        for place, pick in enumerate(picked):
            # A long vowel taken for a short one is likelier than one consonant for another.
            further = departures + (1 if "" in choices[place] else 2)
            following = (further, (*picked[:place], pick + 1, *picked[place + 1 :]))
            if pick + 1 < len(choices[place]) and following not in met:
                met.add(following)
                heappush(waiting, following)


def _trim(consonants: str) -> str:
    return _REPEATED.sub(r"\1", consonants).removesuffix("ه")
