"""What a question wants beyond its words: a definition, a date, the third of several, all of a row."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from server.models.local.bridge import language_of
from server.models.local.candidates import Candidates, Piece
from server.models.local.evidence import LEAST_KINSHIP, NEAR_TERMS, Question, kinship, root, same_word, sentence
from server.text.analysis import terms
from server.text.fold import canonical
from server.text.language import Language
from server.text.ordinals import Ordinal, numbers_asked, ordinals
from server.text.stemming import stem

DEFINITION_BONUS: Final = 0.1

ORDINAL_BONUS: Final = 0.1
"""For speaking of the third law where the third one is asked for."""

ORDINAL_WORTH: Final = 0.5
"""Share of the best sentence's score that one with the asked ordinal must reach to tell that ordinals matter here."""

DATE_BONUS: Final = 0.15
"""For a date beside what the question tells events apart by: the one asked for, not another of the same country."""

NEARLY: Final = 0.9
"""Share of the most that is said beside a date from which a sentence counts as saying it as well."""

_ASKS_DEFINITION: Final = re.compile(
    r"qu'est|\bdefin[ei]|\bwhat (?:is|are)\b|c'est quoi|que signifie|\bما (?:هو|هي|معني)|\bعرف|شنه[وي]|\bche?n[ho]"
)
_DEFINES: Final = re.compile(r"\b(?:est|sont|designe|consiste|s'appelle|on appelle|هو|هي|يسمي|تسمي|تعرف|يعرف|عباره)\b")
_ASKS_ROW: Final = re.compile(
    r"\b(?:what are|list|quels|quelles|lesquel(?:le)?s|cite[rz]?|enumere[rz]?|ما ?ه[يم]|ا?شنه[يم]|اذكر|عدد)\b"
)
_ASKS_DATE: Final = re.compile(
    r"(?:\A|\bet |\bdepuis )quand\b|\bquelles? (?:est la )?(?:date|annee)|\bquel siecle|\bwhen\b"
    r"|\b(?:و?متي|ا?[يم]?متين|امتي|em?t[ae]?yn|wa9tach|وقتاش)\b|\b(?:اي|ما هو|ما) (?:سنه|عام|تاريخ|قرن)"
)
_DATE: Final = re.compile(r"\d{3,4}\D?|siecl|قرن")
_DATE_STEMS: Final = frozenset(terms("date année siècle سنة عام تاريخ قرن"))
_MAY_DATE: Final = re.compile(r"\d{3}|si[eè]cle|قرن")


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of a source: the sources that say it, its worth (about 0 to 1) and the question's share it covers.

    `numbers` are of sources; `lead` puts it in front of others without making them worth less; `place` is which one of
    several it introduces by an ordinal ("la première loi"), 0 for none.
    """

    text: str
    numbers: tuple[int, ...]
    language: Language
    score: float
    lead: float
    coverage: float
    place: int


def asks_row(asked: str) -> bool:
    """Say whether a question asks for all of several."""
    return _ASKS_ROW.search(canonical(asked)) is not None


def judged(asked: str, earlier: str, group: Candidates) -> Iterator[Statement]:
    """Yield the group's sentences with their worth; those of another place in a row than the one asked for are left."""
    scores = group.scores()
    said = canonical(asked)
    if _ASKS_DEFINITION.search(said):
        scores += [DEFINITION_BONUS * _begins_definition(piece.text, group.asked) for piece in group.pieces]
    leads = DATE_BONUS * _dated(group) if _ASKS_DATE.search(said) else np.zeros(len(scores))
    covered = group.coverage.copy()
    places = [0] * len(scores)
    kept = list(range(len(scores)))
    if wanted := numbers_asked(asked) or numbers_asked(earlier):
        told = [_places(piece, group.asked) for piece in group.pieces]
        matched = np.array([bool(wanted & each) for each in told])
        carried = group.language is not language_of(f"{earlier} {asked}".strip())
        told_apart = carried or any(each and not wanted & each for each in told)
        if told_apart and (scores * matched).max() >= ORDINAL_WORTH * scores.max():
            scores += ORDINAL_BONUS * matched
            covered += matched * _ordinal_share(f"{earlier} {asked}", group.asked)
            kept = [at for at, each in enumerate(told) if not each or wanted & each]
    elif _ASKS_ROW.search(said):
        places = [_introduced(piece, group.asked) for piece in group.pieces]
    first = max(kept, key=(scores + leads).__getitem__)
    for at in {first, *np.flatnonzero(places)}:
        covered[at] = max(covered[at], _covered(group.pieces[at], group.asked))
    for at in kept:
        piece = group.pieces[at]
        yield Statement(
            text=piece.text,
            numbers=(piece.number,),
            language=group.language,
            score=float(scores[at]),
            lead=float(leads[at]),
            coverage=float(covered[at]),
            place=places[at],
        )


def _begins_definition(text: str, asked: Question) -> bool:
    head = " ".join(text.split()[:8])
    return bool(_DEFINES.search(canonical(head))) and any(found in asked.weights for found in terms(head)[:2])


def _covered(piece: Piece, asked: Question) -> float:
    """Return the share of a question that a sentence says with its heading, in any form of the words."""
    stems = sentence(f"{piece.heading} {piece.text}").stems
    said = (word for word in asked.weights if any(same_word(word, each) for each in stems))
    return sum(asked.weights[word] for word in said) / asked.total


def _dated(group: Candidates) -> NDArray[np.float64]:
    """Return 1 for the sentences that say most of the question, in any form, beside a date, else 0.

    What few of the sentences with a date say counts more: it tells the event.
    """
    beside = {at: _beside_dates(piece.text) for at, piece in enumerate(group.pieces) if _MAY_DATE.search(piece.text)}
    places = [at for at, stems in beside.items() if stems]
    said = np.zeros(len(places))
    for word, value in group.asked.weights.items():
        if word in _DATE_STEMS:
            continue
        held = np.array([max(kinship(word, each) for each in beside[at]) >= LEAST_KINSHIP for at in places])
        said += value * held * math.log((len(places) + 1) / (held.sum() + 0.5))
    found = np.zeros(len(group.pieces))
    if said.any():
        found[places] = said >= said.max() * NEARLY
    return found


def _beside_dates(text: str) -> set[str]:
    """Return the stems within `NEAR_TERMS` of a year or a century, those included."""
    stems = sentence(text).stems
    dates = [place for place, each in enumerate(stems) if _DATE.fullmatch(each)]
    return {each for date in dates for each in stems[max(0, date - NEAR_TERMS) : date + NEAR_TERMS + 1]}


def _places(piece: Piece, asked: Question) -> set[int]:
    """Return which ones of what the question counts a sentence speaks of: by its own words, or else by its heading."""
    return _counted(ordinals(piece.text), asked) or _counted(ordinals(piece.section), asked)


def _ordinal_share(said: str, asked: Question) -> float:
    """Return the share of a question that its ordinals are: what answers it may write them otherwise."""
    stems = {stem(each.word) for each in ordinals(said)}
    return sum(asked.weights.get(each, 0.0) for each in stems) / asked.total


def _introduced(piece: Piece, asked: Question) -> int:
    """Return which one of what the question names a sentence introduces; 0 for none or several."""
    found = _counted(ordinals(f"{piece.heading} . {piece.text}"), asked, alone=False)
    return found.pop() if len(found) == 1 else 0


def _counted(found: Sequence[Ordinal], asked: Question, *, alone: bool = True) -> set[int]:
    """Return the numbers of the ordinals that stand beside a word of the question or, if `alone`, beside none."""
    roots = {root(word) for word in asked.weights} if found else set()
    return {
        each.number
        for each in found
        if (alone and not each.beside) or any(root(stem(word)) in roots for word in each.beside)
    }
