"""Wrong answers that look right: other numbers of the same form, other keys of the same sort from the same texts."""

import random
import re
from collections.abc import Iterator, Sequence
from typing import Final

from server.models.local.grammar import grammar
from server.models.local.keyterms import Key, KeyKind
from server.text.analysis import terms
from server.text.detection import prevailing_script
from server.text.fold import canonical
from server.text.glossary import entries
from server.text.language import Language

DIGITS: Final = re.compile(r"\d+")
EARLIEST_YEAR: Final = 1000
LATEST_YEAR: Final = 2100


def distractors(
    key: Key, sentence: str, others: Sequence[Key], language: Language, wanted: int, rng: random.Random
) -> list[str]:
    """Return up to `wanted` different wrong answers for a key, none of which the sentence itself holds.

    Sources may be in several languages: a word in another script would give itself away.
    """
    if key.kind is KeyKind.NUMBER:
        return _distinct(key, sentence, _numbers(key.text, others, rng), wanted)
    script = prevailing_script(key.text)
    wordy = [
        other
        for other in others
        if other.kind is not KeyKind.NUMBER and prevailing_script(other.text) in (script, None)
    ]
    same = [other.text for other in wordy if (other.kind, other.subject) == (key.kind, key.subject)]
    related = _glossary_terms(key, language)
    spare = [other.text for other in wordy if other.kind in (key.kind, KeyKind.TERM, KeyKind.NOUN)]
    for texts in (same, related, spare):
        rng.shuffle(texts)
    fits = grammar(key, sentence, language)
    return _distinct(key, sentence, (fits.dress(text) for text in (*same, *related, *spare) if fits(text)), wanted)


def _distinct(key: Key, sentence: str, candidates: Iterator[str], wanted: int) -> list[str]:
    """Keep candidates that share no stem with the sentence (the key is part of it) or with each other."""
    used = set(terms(sentence)) | {canonical(key.text)}
    chosen: list[str] = []
    for candidate in candidates:
        stems = {canonical(candidate)} if key.kind is KeyKind.NUMBER else set(terms(candidate))
        if len(chosen) == wanted:
            break
        if stems and not stems & used:
            used |= stems
            chosen.append(candidate)
    return chosen


def _numbers(text: str, others: Sequence[Key], rng: random.Random) -> Iterator[str]:
    """Yield numbers of the same form: those of the same texts first, then altered ones."""
    digits = "".join(DIGITS.findall(text))
    value = int(digits)
    form = DIGITS.sub("0", text)
    near = [other.text for other in others if other.kind is KeyKind.NUMBER and DIGITS.sub("0", other.text) == form]
    year = len(digits) == 4 and EARLIEST_YEAR <= value <= LATEST_YEAR
    yield from sorted(
        (other for other in near if _year(other) == year and len(other) == len(text)),
        key=lambda other: abs(int("".join(DIGITS.findall(other))) - value),
    )[:1]
    steps = [1, 2, 3, 5, 10, 20, 30] if year else _steps(value)
    signed = [sign * step for step in steps for sign in (1, -1)]
    rng.shuffle(signed)
    for step in signed:
        altered = value + step
        if altered > 0 and (not year or EARLIEST_YEAR <= altered <= LATEST_YEAR):
            yield _written_like(text, altered)


def _year(text: str) -> bool:
    return text.isdigit() and len(text) == 4 and EARLIEST_YEAR <= int(text) <= LATEST_YEAR


def _steps(value: int) -> list[int]:
    """Return distances that keep the number's size: about a tenth, a fifth, a half of it, and powers of ten."""
    magnitude = 10 ** max(0, len(str(value)) - 2)
    return sorted({magnitude, 2 * magnitude, 5 * magnitude, max(1, value // 2), max(1, value)})


def _written_like(model: str, value: int) -> str:
    """Write a number with the separators of another one, counted from its end."""
    digits = str(value).zfill(len(DIGITS.findall(model)) and sum(map(len, DIGITS.findall(model))))
    shape = list(model)
    places = [place for place, character in enumerate(shape) if character.isdigit()]
    extra = len(digits) - len(places)
    for place, digit in zip(places, digits[extra:] if extra > 0 else digits, strict=True):
        shape[place] = digit
    return (digits[:extra] if extra > 0 else "") + "".join(shape)


def _glossary_terms(key: Key, language: Language) -> list[str]:
    if key.kind is not KeyKind.TERM:
        return []
    return [
        entry.spellings(language)[0]
        for entry in entries()
        if entry.subject == key.subject and len(entry.spellings(language)[0].split()) == len(key.text.split())
    ]
