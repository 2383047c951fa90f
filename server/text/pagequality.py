"""Is the text of a page fit to be searched and quoted? A score, and where not, what is wrong and why.

A page that "has text" may still be garbage: a broken ToUnicode map gives "الرةقمية" for "الرقمية" in every extractor,
and some producers store Arabic in visual order. Such pages are worth an OCR run; covers and navigation are not.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from server.text import exercises
from server.text.detection import CHARACTERS_READ, Detection, detect, normalise, prevailing_script
from server.text.fold import canonical, clean
from server.text.language import Language
from server.text.plausibility import ALPHABETS, bits_per_letter, trigrams

FEWEST_TOKENS: Final = 12
FEWEST_LETTERS_JUDGED: Final = 60
"""A page of formulas has too few words to judge their spelling."""

MOST_BITS_PER_LETTER: Final = 4.4
"""Valid French and Arabic pages: at most 3.6. Reversed or shuffled letters: at least 5.2."""

MOST_BITS_OF_FREE_SPELLING: Final = 5.6
"""Hassaniya in Latin letters: 5.4 under the French table."""

MOST_BITS_OF_ANY_LANGUAGE: Final = 7.5
"""Other languages in Latin letters, by the French table: at most 6.2 (Wolof). French with letters exchanged: 8.9."""

TYPICAL_BITS_PER_LETTER: Final = 3.0
LEAST_OCR_CONFIDENCE: Final = 60.0
"""Mean Tesseract confidence (0-100): words under 60 are right less than half the time."""

DOUBTFUL_OCR_CONFIDENCE: Final = 70.0
MOST_JUNK: Final = 0.02
MOST_SPELLING_FAULTS: Final = 0.01
FEWEST_SPELLING_FAULTS: Final = 2
LEAST_WORD_VARIETY: Final = 0.12
SURE_LANGUAGE: Final = 0.9
LANGUAGE_WORDS: Final = 30

_TOKEN: Final = re.compile(r"[^\W_]+")
_JUNK: Final = re.compile("[\ufffd\ue000-\uf8ff]|\\(cid:\\d+\\)|[ÂÃØÙ][^\\sA-Za-z]|â€")
"""Replacement and private-use characters, glyph numbers, and UTF-8 that was read as cp1252."""

_ARABIC_WORD: Final = re.compile("[\u0621-\u063a\u0641-\u064a]+")
_MARKS: Final = re.compile("[\u064b-\u0652\u0670\u0640]+")
_IMPOSSIBLE: Final = re.compile(
    "[ةى][\u0621-\u063a\u0641-\u064a]"  # letters that only end words
    "|(?<![\u0621-\u064a])[ةىئؤ]"  # letters that never begin one
    "|اا|[أإآ][أإآ]"
    "|(?<=[ذدرزوا] )[يىةقنتث](?![\u0621-\u064a])"  # an ending torn off after a letter that does not join
)
_LEADERS: Final = re.compile(r"(?:[.…·]\s?){4,}\s*\d+\s*$", re.MULTILINE)
_BOILERPLATE: Final = (
    "tous droits reserves", "depot legal", "isbn", "politique de confidentialite", "accepter les cookies",
    "mentions legales",
    "plan du site", "se connecter", "s'inscrire", "newsletter", "partager sur", "copyright", "conditions d'utilisation",
    "جميع الحقوق محفوظه", "رقم الايداع", "سياسه الخصوصيه", "شروط الاستخدام", "تسجيل الدخول", "خريطه الموقع", "اتصل بنا",
    "شارك علي",
)  # fmt: skip
_FEW_WORDS: Final = 150


class Fault(StrEnum):
    """What is wrong with a page's text."""

    EMPTY = "empty"
    SHORT = "short"
    UNREADABLE = "unreadable"
    REVERSED = "reversed"
    BROKEN_CHARACTER_MAP = "broken_character_map"
    LOW_OCR_CONFIDENCE = "low_ocr_confidence"
    BOILERPLATE = "boilerplate"
    REPETITIVE = "repetitive"
    WRONG_LANGUAGE = "wrong_language"


OCR_MAY_HELP: Final = frozenset({Fault.EMPTY, Fault.UNREADABLE, Fault.REVERSED, Fault.BROKEN_CHARACTER_MAP})


@dataclass(frozen=True, slots=True)
class Verdict:
    """A score from 0 (useless) to 1 (clean), the fault that rules the page out if any, a sentence for operators."""

    score: float
    fault: Fault | None
    reason: str

    @property
    def valid(self) -> bool:
        """Say whether the page may be indexed without a look."""
        return self.fault is None

    @property
    def wants_ocr(self) -> bool:
        """Say whether reading the page's picture is likely to give a better text."""
        return self.fault in OCR_MAY_HELP


def inspect(
    text: str,
    *,
    ocr_confidence: float | None = None,
    expected: Language | None = None,
    detected: Detection | None = None,
) -> Verdict:
    """Judge one page. `ocr_confidence` is the mean word confidence (0-100) when the text comes from OCR.

    `expected` is the language the document was declared to be in; None takes any of ours. `detected` is what `detect`
    said of the text, if it was asked already.
    """
    text = clean(text)
    tokens = _TOKEN.findall(text)
    refused = (
        _check_length(text, tokens)
        or _check_ocr(ocr_confidence)
        or _check_readable(text)
        or _check_spelling(text)
        or _check_boilerplate(text, tokens)
    )
    if refused:
        return refused
    language = detected or detect(text)
    refused = _check_language(language, len(tokens), expected)
    if refused:
        return _check_noise(text) or refused
    spelled = _check_letters(text, language, ocr_confidence)
    # Noise that repeats is noise in the first place.
    return spelled if spelled.fault else _check_variety(text, tokens) or spelled


def spelling_faults(text: str) -> tuple[int, int]:
    """Count the impossible spellings of a text's Arabic words, and the words.

    Sum both over all pages to judge a document: a broken character map shows on every page, if thinly.
    """
    bare = _MARKS.sub("", text)
    return len(_IMPOSSIBLE.findall(bare)), len(_ARABIC_WORD.findall(bare))


def map_is_broken(pages: Iterable[str]) -> bool:
    """Say whether the Arabic of these pages, taken together, was extracted through a broken character map."""
    counts = [spelling_faults(clean(page)) for page in pages]
    faults, words = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    return faults >= FEWEST_SPELLING_FAULTS and faults > MOST_SPELLING_FAULTS * words


def _check_length(text: str, tokens: list[str]) -> Verdict | None:
    if not text:
        return Verdict(0.0, Fault.EMPTY, "The page has no text.")
    if len(tokens) < FEWEST_TOKENS:
        return Verdict(0.2, Fault.SHORT, f"The page has only {len(tokens)} words.")
    return None


def _check_ocr(confidence: float | None) -> Verdict | None:
    if confidence is None or confidence >= LEAST_OCR_CONFIDENCE:
        return None
    return Verdict(
        confidence / 200, Fault.LOW_OCR_CONFIDENCE, f"Character recognition is only {confidence:.0f} % sure."
    )


def _check_readable(text: str) -> Verdict | None:
    junk = sum(len(found) for found in _JUNK.findall(text)) / len(text)
    if junk > MOST_JUNK:
        return Verdict(0.0, Fault.UNREADABLE, f"{junk:.0%} of the characters have no meaning.")
    return None


def _check_spelling(text: str) -> Verdict | None:
    bare = _MARKS.sub("", text)
    words = _ARABIC_WORD.findall(bare)
    if not words:
        return None
    articles = sum(word.startswith("ال") for word in words)
    mirrored = sum(word.endswith("لا") and len(word) > 3 for word in words)
    if mirrored > articles and mirrored > 0.1 * len(words):
        return Verdict(0.0, Fault.REVERSED, "The Arabic letters are in visual order: words read backwards.")
    if map_is_broken([text]):
        faults = len(_IMPOSSIBLE.findall(bare))
        reason = (
            f"{faults} of {len(words)} Arabic words are spelled as no Arabic word can be: the font's map is broken."
        )
        return Verdict(0.3, Fault.BROKEN_CHARACTER_MAP, reason)
    return None


def _check_boilerplate(text: str, tokens: list[str]) -> Verdict | None:
    lines = [line for line in text.splitlines() if line.strip()]
    if len(_LEADERS.findall(text)) >= max(4, 0.5 * len(lines)):
        return Verdict(0.3, Fault.BOILERPLATE, "The page is a table of contents.")
    folded = canonical(text)
    if len(tokens) < _FEW_WORDS and sum(phrase in folded for phrase in _BOILERPLATE) >= 3:
        return Verdict(0.3, Fault.BOILERPLATE, "The page is an imprint or site navigation.")
    return None


def _check_variety(text: str, tokens: list[str]) -> Verdict | None:
    words = [token for token in tokens if token.isalpha()]
    few = len(words) > _FEW_WORDS and len(set(words)) < LEAST_WORD_VARIETY * min(len(words), 1_000)
    if few and not exercises.is_sheet(text):
        return Verdict(0.2, Fault.REPETITIVE, "The page repeats the same few words.")
    return None


def _check_language(found: Detection, words: int, expected: Language | None) -> Verdict | None:
    """Refuse another language only where the text is long enough and the detector sure; our three may mix."""
    if words < LANGUAGE_WORDS or found.confidence < SURE_LANGUAGE:
        return None
    ours_instead_of_ours = (
        expected is not None and Language.FRENCH in (found.language, expected) and found.language is not expected
    )
    if found.language is Language.OTHER or ours_instead_of_ours:
        wanted = expected.value if expected else "fr, ar or mey"
        return Verdict(
            0.4, Fault.WRONG_LANGUAGE, f"The page is in another language ({found.language.value}) than {wanted}."
        )
    return None


def _check_noise(text: str) -> Verdict | None:
    """Tell letters of no language at all, which a wrong font map makes of one of ours, from another language."""
    if _bits(text)[1] > MOST_BITS_OF_ANY_LANGUAGE:
        return Verdict(0.0, Fault.UNREADABLE, "The letters do not form words of any language.")
    return None


def _bits(text: str) -> tuple[str | None, float]:
    """Return the prevailing script and how surprising its letters are; too few of them are typical."""
    script = prevailing_script(normalise(text[:CHARACTERS_READ]))
    if script in ALPHABETS and len(trigrams(text, script)) >= FEWEST_LETTERS_JUDGED:
        return script, bits_per_letter(text, script)
    return script, TYPICAL_BITS_PER_LETTER


def _check_letters(text: str, found: Detection, ocr_confidence: float | None) -> Verdict:
    """Judge by letter trigrams. Latin letters are judged as French; Hassaniya's free spelling gets more room."""
    script, bits = _bits(text)
    free_spelling = script == "latin" and found.language is not Language.FRENCH
    if bits > (MOST_BITS_OF_FREE_SPELLING if free_spelling else MOST_BITS_PER_LETTER):
        return Verdict(0.1, Fault.UNREADABLE, "The letters do not form words of the page's language.")
    excess = max(0.0, bits - TYPICAL_BITS_PER_LETTER) / (MOST_BITS_PER_LETTER - TYPICAL_BITS_PER_LETTER)
    score = 1.0 - 0.5 * min(1.0, excess)
    if ocr_confidence is not None and ocr_confidence < DOUBTFUL_OCR_CONFIDENCE:
        return Verdict(score * 0.7, None, f"Character recognition is {ocr_confidence:.0f} % sure; worth a look.")
    return Verdict(score, None, "")
