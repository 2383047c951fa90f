"""Just enough grammar to put another word into a gap: gender, number, elision and capitals in French, article and
gender in Arabic. Heuristic: a rule here only decides which wrong answers are offered, never which one is right.
"""

import re
from dataclasses import dataclass
from typing import Final

from server.models.local.keyterms import Key
from server.text.fold import canonical
from server.text.language import Language

_BEFORE: Final = re.compile(r"(?i)(?:^|[\s('’])(l['’]|d['’]|le|la|les|un|une|des|du|au|aux|cet?|cette|ces|sa|son)\s?$")
_MASCULINE_BEFORE: Final = frozenset(("le", "un", "du", "au", "ce", "cet", "son"))
_FEMININE_BEFORE: Final = frozenset(("la", "une", "cette", "sa"))
_PLURAL_BEFORE: Final = frozenset(("les", "des", "aux", "ces"))
_FEMININE: Final = re.compile(
    r"(?:[st]ion|ison|te|ure|[ae]nce|ie|esse|ette|ude|ise|ade|[ei]re|elle|ee|eur de|[^aeiou]e)$"
)
_MASCULINE: Final = re.compile(
    r"(?:isme|age|[eo]me|gramme|[cgbp]le|bre|tre|aire|oire|ide|yde|ype|one|ube|ege|ule|logue|phe|theme|nere|ygene)$"
)
_FEMININE_ALL_THE_SAME: Final = frozenset(
    ("image", "page", "cellule", "molecule", "hormone", "formule", "fenetre", "mer")
)
_VOWELS: Final = "aeiouyh"


def is_feminine(french: str) -> bool:
    """Guess a French noun's gender from its (first word's) ending."""
    word = canonical(french).split()[0]
    if word in _FEMININE_ALL_THE_SAME:
        return True
    return not _MASCULINE.search(word) and bool(_FEMININE.search(word))


@dataclass(frozen=True, slots=True)
class Fit:
    """What a word must be like to stand in a gap; None where anything goes."""

    language: Language
    feminine: bool | None
    plural: bool
    vowel: bool | None
    capital: bool
    article: bool

    def __call__(self, text: str) -> bool:
        """Say whether a word fits the gap."""
        if self.language is not Language.FRENCH:
            return text.rstrip("\u064b-\u0652").endswith(("ة", "ات")) == bool(self.feminine)
        if self.vowel is not None and (canonical(text)[:1] in _VOWELS) != self.vowel:
            return False
        if not self.plural and canonical(text).split()[0].endswith("s"):
            return False
        return self.feminine is None or is_feminine(text) == self.feminine

    def dress(self, text: str) -> str:
        """Return the word with the capital, plural or article that the gap asks for: the right answer must not stand
        out by its form.
        """
        if self.language is not Language.FRENCH:
            bare = " ".join(word.removeprefix("ال") for word in text.split())
            return " ".join(f"ال{word}" for word in bare.split()) if self.article else bare
        if self.plural and " " not in text and not text.endswith(("s", "x", "z")):
            text += "s"
        return text[:1].upper() + text[1:] if self.capital else text


def grammar(key: Key, sentence: str, language: Language) -> Fit:
    """Read from the sentence what the word in the key's place must be like."""
    capital = key.text[:1].isupper()
    if language is not Language.FRENCH:
        return Fit(language, key.text.endswith(("ة", "ات")), False, None, capital, key.text.startswith("ال"))
    match = _BEFORE.search(sentence[: key.start])
    before = match[1].lower().replace("’", "'") if match else ""
    plural = before in _PLURAL_BEFORE or (not before and not capital and key.text.endswith("s"))
    feminine = None if plural or capital else before in _FEMININE_BEFORE
    if not plural and not capital and before not in _FEMININE_BEFORE | _MASCULINE_BEFORE:
        feminine = is_feminine(key.text)
    vowel = None if plural or not before else canonical(key.text)[:1] in _VOWELS
    return Fit(language, feminine, plural, vowel, capital, False)
