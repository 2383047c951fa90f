"""The verdict on every page: indexed, left out with a reason, or shown to a person. Never silently dropped. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from server.ingestion import furniture
from server.ingestion.duplicates import Comparison
from server.ingestion.extraction.page import Method, Page
from server.ingestion.paragraphs import join_lines
from server.text import detection, nearduplicate, pagequality
from server.text.detection import Detection
from server.text.language import Language
from server.text.pagequality import Fault

SURE_LANGUAGE = 0.8
"""Below this probability a page counts as being in the document's prevailing language."""
MIN_COMPARED_WORDS = 20
"""Shorter pages (titles, chapter pages) repeat for good reasons and are not compared."""
_FOR_A_PERSON = frozenset({Fault.UNREADABLE, Fault.REVERSED, Fault.BROKEN_CHARACTER_MAP, Fault.LOW_OCR_CONFIDENCE})
_OF_INTENT = frozenset({Fault.EMPTY, Fault.SHORT, Fault.REPETITIVE})
"""What a page in a book is left out for, but not a document that has nothing else."""
_FROM_TEXT_LAYER = frozenset({Method.TEXT_LAYER, Method.REORDERED})
_PRINTED = _FROM_TEXT_LAYER | {Method.OCR}
BROKEN_MAP = "The document's fonts map letters wrongly; its text layer cannot be trusted."


class PageVerdict(StrEnum):
    """What becomes of a page."""

    INDEXED = "indexed"
    REVIEW = "review"
    """Left out until a person has looked: its text cannot be trusted."""
    REJECTED = "rejected"
    DUPLICATE = "duplicate"
    """Left out: the same document has it already."""


@dataclass(frozen=True, slots=True)
class JudgedPage:
    """A page's final text with its verdict. `score` is 0 to 1; `fingerprint` is None for pages too short to compare.

    `duplicate_of` is an earlier page of the same document.
    """

    number: int
    text: str
    language: Language
    verdict: PageVerdict
    reason: str
    score: float
    words: int
    fingerprint: int | None
    fault: Fault | None = None
    duplicate_of: int | None = None

    @property
    def flagged(self) -> bool:
        """Say whether a person should look at the page."""
        return self.verdict is PageVerdict.REVIEW or (self.verdict is PageVerdict.INDEXED and bool(self.reason))


class PageSelection(StrEnum):
    """Which pages of a document to list."""

    ALL = "all"
    LEFT_OUT = "left_out"
    FLAGGED = "flagged"
    REPEATED = "repeated"


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """What is kept of a page's reading and verdict, without its text; `verdict` is None until it was judged.

    `confidence` is 0 to 100 (OCR only), `score` 0 to 1. It nearly repeats page `repeats_number` of a document, if any.
    """

    number: int
    verdict: PageVerdict | None
    reason: str
    method: Method
    confidence: float | None
    score: float
    language: Language
    words: int
    repeats_document_id: UUID | None
    repeats_number: int | None


def judge(pages: Sequence[Page], declared: Language | None = None, *, chosen: bool = True) -> list[JudgedPage]:
    """Judge all pages of a document, in order. `declared` is the language its owner named, if any.

    A document that a person has `chosen` is taken as it is when it is nothing but short or repetitive.
    """
    texts = _reading_texts(pages)
    detected = [None if declared else detection.detect(text) for text in texts]
    languages = [declared] * len(texts) if declared else _languages(texts, [one for one in detected if one])
    broken_map = pagequality.map_is_broken(page.text for page in pages if page.method in _FROM_TEXT_LAYER)
    judged = []
    for page, text, language, seen in zip(pages, texts, languages, detected, strict=True):
        found = _judge_page(page, text, language, declared, seen)
        if broken_map and page.method in _FROM_TEXT_LAYER and language is not Language.FRENCH:
            found = replace(found, verdict=PageVerdict.REVIEW, reason=BROKEN_MAP)
        judged.append(found)
    return _mark_repeated(_keep_as_intended(judged) if chosen else judged)


def _reading_texts(pages: Sequence[Page]) -> list[str]:
    """Return each page's text without running heads, its wrapped lines joined; markup has neither."""
    stripped = furniture.strip([page.text for page in pages])
    return [
        join_lines(text) if page.method in _PRINTED else page.text for page, text in zip(pages, stripped, strict=True)
    ]


def _languages(texts: Sequence[str], found: Sequence[Detection]) -> list[Language]:
    """Return each page's language; where a page does not tell surely, that of most of the document's text."""
    weights: Counter[Language] = Counter()
    for text, one in zip(texts, found, strict=True):
        weights[one.language] += len(text)
    prevailing = weights.most_common(1)[0][0] if weights else Language.OTHER
    return [one.language if one.confidence >= SURE_LANGUAGE else prevailing for one in found]


def _judge_page(
    page: Page, text: str, language: Language, declared: Language | None, detected: Detection | None
) -> JudgedPage:
    quality = pagequality.inspect(text, ocr_confidence=page.confidence, expected=declared, detected=detected)
    words = len(text.split())
    return JudgedPage(
        number=page.number,
        text=text,
        language=language,
        verdict=_verdict(quality.fault),
        reason=quality.reason,
        score=quality.score,
        words=words,
        fingerprint=nearduplicate.simhash(text) if words >= MIN_COMPARED_WORDS else None,
        fault=quality.fault,
    )


def _verdict(fault: Fault | None) -> PageVerdict:
    if fault is None:
        return PageVerdict.INDEXED
    return PageVerdict.REVIEW if fault in _FOR_A_PERSON else PageVerdict.REJECTED


def _keep_as_intended(pages: list[JudgedPage]) -> list[JudgedPage]:
    """Index a document that has no better page: a short note is short by intent. Repetition is still told."""
    if any(page.verdict is not PageVerdict.REJECTED or page.fault not in _OF_INTENT for page in pages):
        return pages
    return [_kept(page) if page.words else page for page in pages]


def _kept(page: JudgedPage) -> JudgedPage:
    return replace(page, verdict=PageVerdict.INDEXED, reason="" if page.fault is Fault.SHORT else page.reason)


def _mark_repeated(pages: list[JudgedPage]) -> list[JudgedPage]:
    """Leave out pages that nearly repeat an earlier one of the same document."""
    kept: list[JudgedPage] = []
    marked: list[JudgedPage] = []
    comparison = Comparison()
    for page in pages:
        original = _original(page, kept, comparison) if page.verdict is PageVerdict.INDEXED else None
        if original is not None:
            reason = f"The page repeats page {original.number}."
            page = replace(page, verdict=PageVerdict.DUPLICATE, reason=reason, duplicate_of=original.number)
        elif page.fingerprint is not None and page.verdict is PageVerdict.INDEXED:
            kept.append(page)
        marked.append(page)
    return marked


def _original(page: JudgedPage, earlier: Sequence[JudgedPage], comparison: Comparison) -> JudgedPage | None:
    if page.fingerprint is None or not earlier:
        return None
    near = nearduplicate.candidates(page.fingerprint, [other.fingerprint or 0 for other in earlier])
    return next((earlier[int(at)] for at in near if comparison.repeats(page.text, earlier[int(at)].text)), None)
