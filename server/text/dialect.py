"""Words that only Hassaniya writes, for texts that the trained classifier has not met the like of.

The classifier learned from two collections and takes an unknown writer's Hassaniya for French or standard Arabic. Two
things hold for every writer: Latin letters with digits for the sounds that French lacks (3, 5, 7, 9 …), and a small
stock of question words, pronouns and negations. Pure rules, made from grammar and not from the test sentences.
"""

import re
from collections.abc import Sequence
from typing import Final

LATIN_SHARE: Final = 6
"""One word in so many must be a marked one; two or more may stand among a few more."""
LATIN_SHARE_OF_SEVERAL: Final = 5
ARABIC_SHARE: Final = 12
STRONG_LIKELIHOOD: Final = 0.08
WEAK_LIKELIHOOD: Final = 0.25
"""What the classifier must give Hassaniya for one word that is seldom, or sometimes, standard Arabic to decide."""
SHORTEST_WITH_ARTICLE: Final = 3

ORDINAL: Final = re.compile(r"\d+(?:e|er|ere|ère|eme|ème|nd|nde|rd|st|th|am|pm|d|g|h|m|s|x|a|b|c)s?$")
_FORMULA: Final = re.compile(
    r"(?:(?:h|c|o|n|s|p|k|f|i|b|na|ca|cl|mg|fe|cu|zn|al|ag|br|mn|si|pb|hg|ni|cr|li|he|ba)\d*)+$"
)
_DIGIT_AS_LETTER: Final = re.compile(
    r"(?:2?3(?:l[aeiy]|nd|nk?[aeiou])[a-z]*"
    r"|[a-z]*(?:[235679](?=[aeiou])|(?<=[aeiou])[35679]"
    r"|4(?=[aeiou][a-z])|(?<=[aeiou])4(?=[a-z]))[a-z0-9]*)$"
)
_LATIN_LIST: Final = """
    mn mnin weyn lli elli yelli nte nta nti nto ntouma ana ani hown houn yasser yaser kif kifen chenhou chinhou chenhu
    chinhu chenhi chinhi chnhu achkem echkem mani mahou mahi mahom lahi lehi houwe houwa eyak iyak hatta hado dhak dhik
    wella wlla welle gal galt gult yegder negder tegder nebgi nebghi yebgi tebgi ma3 m3a zeyn howe howa hiye hiya houme
    lin ilin leyn mezal gidd yegdd negdd tegdd
"""
_LATIN_ASKS: Final = re.compile(
    r"(?:[ei]?(?:ch|sh)[eiu]?n+(?:h(?:u|ou|o|i)|u|ou|[ou]?u?wa)(?:wa|ma)?|k[ei]+[fv][ae]?(?:ch|sh)|3?[ae]?3?la(?:ch|sh)"
    r"|em?t[ei]+y?n|m[ea]?nh(?:ou|u)w?a?)\Z"
)
"""Question words that have no fixed spelling ("chenhu", "shnuwa", "kifash") and that neither French nor English has."""

_STRONG_LIST: Final = """
    شنهو شنهي شنه اشنهو اشنهي اياك ياسر يخي اهيه لاهي هون هوك هاذ هاذو هاذي هذو ذوك علاش اعلاش امنين منين ويش واش اعل
    حته حت خالگ خالك ماني ماهو ماهي مانك ماهم مانا عندن انتوم احن احنا شوي شوية مزال گاع گاعد ايقد اتقد نگد تگد
    يگد ايگد اندور ادور ايدور تدورو لحگ گال گالت گلت قالك ايعود لبارح البارح ارواح لين اراهو راهو راني يسو ايعدل اتعدل
    ايجبر انجبر طيني وخظ امبارك يعگب شكون شطاري اشطاري منهو فيسع خالع
"""
_STANDARD_OPENING: Final = re.compile(r" (?:ل?ماذا|ما ه[وي]|من ه[وي]|مت[ىي]|[أا]ين|هل)(?= )")
_WEAK_LIST: Final = "يقد تقد زين ذيك راه هوم اش بيك معاي كاع قاع ماه لهي"
_LATIN: Final = frozenset(_LATIN_LIST.split())
_STRONG: Final = frozenset(_STRONG_LIST.split())
_WEAK: Final = frozenset(_WEAK_LIST.split())


def writes_hassaniya(script: str, words: Sequence[str], likelihood: float) -> bool:
    """Say whether a text's words mark it as Hassaniya; `likelihood` is what the classifier gives it.

    `words` are normalised as for `server.text.detection`; `script` is arabic or latin.
    """
    if script == "latin":
        spelled = sum(_digit_is_letter(word) or _LATIN_ASKS.match(word) is not None for word in words)
        marked = spelled + len(_LATIN.intersection(words))
        return LATIN_SHARE * spelled >= len(words) > 0 or (marked > 1 and LATIN_SHARE_OF_SEVERAL * marked >= len(words))
    strong, weak = len(_STRONG.intersection(words)), len(_WEAK.intersection(words))
    if ARABIC_SHARE * (strong + weak) < len(words):
        return False
    return (
        strong + weak > 1
        or (strong > 0 and likelihood >= STRONG_LIKELIHOOD)
        or (weak > 0 and likelihood >= WEAK_LIKELIHOOD)
    )


def asks_in_latin(word: str) -> bool:
    """Say whether a canonical word in Latin letters is a question word or another small word of Hassaniya."""
    return word in _LATIN or _LATIN_ASKS.match(word) is not None


def asks_in_standard(normalised: str) -> bool:
    """Say whether a text in Arabic script begins with a question word that Hassaniya has another one for."""
    return _STANDARD_OPENING.match(normalised) is not None


def standard_spellings(word: str) -> tuple[str, ...]:
    """Return the standard spellings of a canonical word whose article is written as it is said, without its alef.

    "لكتاب" is "الكتاب"; before a hamza both are swallowed: "لصوات" is "الأصوات". No spelling for any other word.
    """
    if not word.startswith("ل") or word.startswith("لل") or len(word) < SHORTEST_WITH_ARTICLE:
        return ()
    return (f"ا{word}",) if word[1] == "ا" else (f"ا{word}", f"الا{word[1:]}")


def _digit_is_letter(word: str) -> bool:
    letters = sum(map(str.isalpha, word))
    if letters < 2 or letters == len(word) or ORDINAL.match(word) or _FORMULA.match(word):
        return False
    return _DIGIT_AS_LETTER.match(word) is not None
