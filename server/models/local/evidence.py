"""What speaks for a passage answering a question: coverage, closeness, order and parts of words, as numbers.

Passages are analysed once and kept by their text; a question costs a few dictionary look-ups per passage.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from server.models.local.frequency import weight
from server.text.analysis import terms, words
from server.text.dialect import asks_in_latin
from server.text.fold import canonical
from server.text.memo import Memo

FEATURES: Final = (
    "bm25", "pool_bm25", "coverage", "pool_coverage", "share_of_terms", "parts_of_words", "within_10", "neighbours",
    "begins_late", "length", "names", "number_wanted",
)  # fmt: skip

SATURATION: Final = 1.2
LENGTH_SHARE: Final = 0.75
TYPICAL_TERMS: Final = 70
"""Terms of a usual passage (about 110 words without stop words): what BM25 compares lengths with."""

LEAST_WEIGHT: Final = 0.02
LEAST_SIMILARITY: Final = 0.4
LEAST_KINSHIP: Final = 0.6
"""Share of letter n-grams from which a word counts as another form of the question's: "استقلت" and "استقلال"."""

NEAR_TERMS: Final = 8
EARLIER_SHARE: Final = 0.25
"""What a word of the question before weighs in a follow-up, against 1 for the follow-up's own."""

WINDOW: Final = 10
"""Terms within which matches count as said in one place."""

CACHED_PASSAGES: Final = 4_096
_CACHED_KIN: Final = 1_024
"""Stems whose kin are kept, and kin kept of each."""

_WANTS_NUMBER: Final = re.compile(
    r"\b(?:combien|quand|en quelle annee"
    r"|quelle (?:annee|date|est la date|est l'annee|distance|taille|superficie|population)"
    r"|quel (?:jour|siecle|age|mois|pourcentage|nombre|est le nombre))|متي|\bكم\b|عام|سنه|تاريخ|عدد|نسبه|مساحه"
)
_QUESTION_WORD: Final = re.compile(
    r"\b(?:wh(?:at|o|en|ere|y|ich)|how|many|much|is|are|was|were|do|does|did|the|of|qui|que|qu|quoi|quel(?:le)?s?|ou|quand|comment|pourquoi|combien|sa|son|ses|leurs?"
    r"|و?(?:من|ما|ماذا|متي|اين|كيف|كم|لماذا|هل|علاش|كيفاش|ا?شنه[وي]|منهو|امتين))\b"
)
_DIGIT: Final = re.compile(r"\d")
_ARABIC_VOWELS: Final = str.maketrans("", "", "اويء")
_NAME: Final = re.compile(r"(?<=\w )(?:\w')?[A-ZÀ-ÖØ-Þ][\w-]*|\d+")


class Passage:
    """A passage's stems in order, and the distinct ones.

    Thousands of them are kept, so each holds few objects that the garbage collector has to visit.
    """

    __slots__ = ("_distinct", "_sorted", "stems")

    def __init__(self, stems: Iterable[str]) -> None:
        self.stems = tuple(stems)
        self._distinct = frozenset(self.stems)
        self._sorted = sorted(self._distinct)

    def __contains__(self, stem: str) -> bool:
        """Say whether a stem occurs."""
        return stem in self._distinct

    def places(self, stem: str) -> list[int]:
        """Return where a stem occurs, in order."""
        places: list[int] = []
        if stem in self._distinct:
            for _ in range(self.stems.count(stem)):
                places.append(self.stems.index(stem, places[-1] + 1 if places else 0))
        return places

    def beginning_with(self, letter: str) -> list[str]:
        """Return the distinct stems with this first letter."""
        start = bisect_left(self._sorted, letter)
        return self._sorted[start : bisect_left(self._sorted, chr(ord(letter) + 1), start)]

    def numbers(self) -> list[tuple[int, str]]:
        """Return where the stems with digits stand."""
        return [(place, stem) for place, stem in enumerate(self.stems) if _DIGIT.search(stem)]


@dataclass(frozen=True, slots=True)
class Question:
    """A question's stems in order, the weight of each, those of names and numbers, and whether it asks for a number.

    `total` and `named` are the weights of all stems and of the names together.
    """

    order: tuple[str, ...]
    weights: dict[str, float]
    total: float
    names: frozenset[str]
    named: float
    wants_number: bool


@lru_cache(CACHED_PASSAGES)
def passage(text: str) -> Passage:
    """Analyse a passage; about 0.05 ms, then kept by its text."""
    return sentence(text)


def sentence(text: str) -> Passage:
    """Analyse a text that will not come again."""
    return Passage(terms(text))


def question(text: str, earlier: str = "") -> Question:
    """Analyse a question; the words of an earlier one that it follows weigh `EARLIER_SHARE` of its own."""
    own = _asked_terms(text)
    order = [*_asked_terms(earlier), *own] if earlier else own
    weights = {stem: weight(stem) + LEAST_WEIGHT for stem in order}
    if earlier:
        weights |= {stem: EARLIER_SHARE * weights[stem] for stem in weights.keys() - own}
    written = f"{earlier} {text}"
    names = frozenset(stem for found in _NAME.findall(written) for stem in terms(found)) & weights.keys()
    return Question(
        tuple(order),
        weights,
        sum(weights.values()) or 1.0,
        names,
        sum(weights[stem] for stem in names),
        bool(_WANTS_NUMBER.search(canonical(text if own_question(text) else written))),
    )


def _asked_terms(text: str) -> list[str]:
    """Return the terms of a question without the words that ask, where others are left."""
    asking = {each for word in words(text) if asking_word(word) for each in terms(word)}
    found = terms(text)
    return [each for each in found if each not in asking] or found


def own_question(text: str) -> bool:
    """Say whether a text asks something else than the question before it: it has a question word, or asks for "its"."""
    return _QUESTION_WORD.search(canonical(text)) is not None


def asking_word(word: str) -> bool:
    """Say whether a canonical word is one that asks."""
    return _QUESTION_WORD.fullmatch(word) is not None or asks_in_latin(word)


def evidence(asked: Question, passages: Sequence[Passage]) -> NDArray[np.float64]:
    """Return one row of `FEATURES` per passage, shape (passages, features). The pool features compare the passages."""
    rarity = _rarity_in_pool(asked, passages)
    pool_total = sum(weight_ * rarity[stem] for stem, weight_ in asked.weights.items()) or 1.0
    rows = [_evidence(asked, each, rarity, pool_total) for each in passages]
    return np.array(rows, dtype=np.float64).reshape(len(passages), len(FEATURES))


def _rarity_in_pool(asked: Question, passages: Sequence[Passage]) -> dict[str, float]:
    """Return how well each question stem tells these passages apart, 0 to 1: the rarer among them the better."""
    total = len(passages)
    highest = math.log(2 * total + 2)
    counts = {stem: sum(stem in each for each in passages) for stem in asked.weights}
    return {stem: math.log(1 + (total - count + 0.5) / (count + 0.5)) / highest for stem, count in counts.items()}


def _evidence(asked: Question, found: Passage, rarity: dict[str, float], pool_total: float) -> tuple[float, ...]:
    weights, total = asked.weights, asked.total
    length = len(found.stems)
    norm = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * length / TYPICAL_TERMS)
    bm25 = pool_bm25 = coverage = pool_coverage = parts = 0.0
    matched: dict[str, list[int]] = {}
    for stem, weight_ in weights.items():
        places = found.places(stem)
        if not places:
            parts += weight_ * _best_similarity(stem, found)
            continue
        matched[stem] = places
        saturated = weight_ * len(places) * (SATURATION + 1) / (len(places) + norm)
        bm25 += saturated
        pool_bm25 += saturated * rarity[stem]
        coverage += weight_
        pool_coverage += weight_ * rarity[stem]
    places_of_matches = sorted((place, stem) for stem, places in matched.items() for place in places)
    return (
        bm25 / total,
        pool_bm25 / pool_total,
        coverage / total,
        pool_coverage / pool_total,
        len(matched) / max(1, len(weights)),
        parts / total,
        _best_window(places_of_matches, weights) / total,
        _neighbours(asked, matched),
        places_of_matches[0][0] / max(1, length) if places_of_matches else 1.0,
        math.log(length + 1) / 5,
        sum(weights[stem] for stem in asked.names if stem in matched) / asked.named if asked.names else 0.0,
        _number_near(asked, found, places_of_matches),
    )


@lru_cache(65_536)
def _ngrams(stem: str) -> frozenset[str]:
    padded = f"^{stem}$"
    return frozenset(padded[at : at + size] for size in (3, 4) for at in range(len(padded) - size + 1))


def _similarity(first: str, second: str) -> float:
    """Return the Dice coefficient of two stems' letter n-grams, 0 below `LEAST_SIMILARITY`."""
    ours, theirs = _ngrams(first), _ngrams(second)
    dice = 2 * len(ours & theirs) / (len(ours) + len(theirs))
    return dice if dice >= LEAST_SIMILARITY else 0.0


_kin: Final[Memo[str, Memo[str, float]]] = Memo(lambda stem: Memo(partial(_similarity, stem), _CACHED_KIN), _CACHED_KIN)


def _best_similarity(stem: str, found: Passage) -> float:
    if len(stem) < 3:
        return 0.0
    return max(map(_kin[stem].__getitem__, found.beginning_with(stem[0])), default=0.0)


def kinship(first: str, second: str) -> float:
    """Return how alike two stems are, 0 to 1: 1 for the same, else by their letters ("استقل", "استقلال")."""
    return 1.0 if first == second else _kin[first][second]


def same_word(first: str, second: str) -> bool:
    """Say whether two stems are forms of one word."""
    return kinship(first, second) >= LEAST_KINSHIP or root(first) == root(second) != ""


def root(stem: str) -> str:
    """Return a stem as singular and plural share it: "loi", "lois"; without vowel letters "معيار", "معايير"."""
    if stem.isascii():
        return stem.rstrip("sx")
    bare = stem.translate(_ARABIC_VOWELS) or stem
    return "".join(letter for place, letter in enumerate(bare) if letter != bare[place - 1 : place])


def _best_window(places: Sequence[tuple[int, str]], weights: dict[str, float]) -> float:
    """Return the greatest weight of distinct stems within `WINDOW` terms."""
    best = current = 0.0
    inside: dict[str, int] = {}
    start = 0
    for place, stem in places:
        inside[stem] = inside.get(stem, 0) + 1
        if inside[stem] == 1:
            current += weights[stem]
        while place - places[start][0] >= WINDOW:
            left = places[start][1]
            inside[left] -= 1
            if not inside[left]:
                current -= weights[left]
            start += 1
        best = max(best, current)
    return best


def _neighbours(asked: Question, matched: dict[str, list[int]]) -> float:
    """Return the weighted share of the question's neighbouring stems that are neighbours here too (half when near)."""
    together = possible = 0.0
    for first, second in zip(asked.order, asked.order[1:], strict=False):
        pair_weight = asked.weights[first] + asked.weights[second]
        possible += pair_weight
        firsts, seconds = matched.get(first), matched.get(second)
        if firsts and seconds:
            gap = min(b - a if b > a else a - b + 1 for a in firsts for b in seconds)
            together += pair_weight * (1.0 if gap == 1 else 0.5 if gap <= 3 else 0.0)
    return together / possible if possible else 0.0


def _number_near(asked: Question, found: Passage, places: Sequence[tuple[int, str]]) -> float:
    """Return, for a question that asks for a number: half for having one of its own, half for one near a match."""
    if not asked.wants_number:
        return 0.0
    numbers = [place for place, stem in found.numbers() if stem not in asked.weights]
    near = any(abs(number - place) <= NEAR_TERMS for number in numbers for place, _ in places)
    return 0.5 * bool(numbers) + 0.5 * near
