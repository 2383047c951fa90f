"""Citations checked against the stored text: each [n] is found again as a span of its page, or dropped and said.

A claim is found by its words: an explicit quotation or the whole sentence where it stands verbatim (up to canonical
form), else the one or two sentences of the passage that share most of its terms. Numbers weigh as terms do, and a
sentence with a number that its passages do not hold is never counted as supported. An answer in another language than
its passages is compared through the glossary's school terms and, where a model can, a translation.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from server.models.port import ProviderFailure, TutorModel
from server.retrieval.events import Citation, Validation
from server.retrieval.passage import Passage
from server.text.analysis import terms
from server.text.detection import detect
from server.text.fold import canonical, locate
from server.text.language import Language
from server.text.sentences import spans as sentence_spans

LOCATED_COVERAGE = 0.4
"""Share of a sentence's terms that the quoted span must hold."""
LOCATED_TERMS = 2
"""Terms that a sentence and the quoted span share, at least (fewer only when the sentence has no more)."""
SECOND_SENTENCE_COVERAGE = 0.2
"""A quote takes in a second sentence only when that adds at least this share of the terms."""
SUPPORTED_COVERAGE = 0.6
"""Share of a sentence's terms that one passage must hold for the sentence to count as supported."""
CLAIM_TERMS = 3
"""A sentence with fewer terms (a greeting, a heading) claims nothing that could be checked."""
VERBATIM_CHARACTERS = 12
"""Shorter words stand in many places by chance and are not looked for verbatim."""
MAX_CITATIONS = 60
MAX_TRANSLATIONS = 12
TRANSLATION_SECONDS = 6.0

_MARKER = re.compile(r"\s*\[(\d{1,3}(?:\s*[,،;]\s*\d{1,3})*)\]")
_QUOTATION = re.compile(r"«\s*([^»]{8,400}?)\s*»|“([^”]{8,400})”|\"([^\"]{8,400})\"")
_LEADING_MARKERS = re.compile(rf"(?:{_MARKER.pattern})+[.,;:]?\s*")
_ENUMERATOR = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+")
_NUMBER = re.compile(r"\d+(?:[.,٫]\d+)*")

Bridge = Callable[[str], Sequence[str]]
"""Gives the counterparts of a text's school terms in the other languages."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of an answer without its markers, and each number it cites with the words that stand before it."""

    text: str
    cited: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """Citations that were found and what the check says of the answer as a whole."""

    citations: tuple[Citation, ...]
    validation: Validation


def claims(answer: str) -> list[Claim]:
    """Split an answer into sentences; markers after the full stop belong to the sentence before it."""
    sentences: list[str] = []
    for start, end in sentence_spans(answer):
        sentence = answer[start:end]
        late = _LEADING_MARKERS.match(sentence)
        if late and sentences:
            sentences[-1] += late[0]
            sentence = sentence[late.end() :]
        if sentence:
            sentences.append(sentence)
    return [_claim(sentence) for sentence in sentences]


def _claim(sentence: str) -> Claim:
    text = _ENUMERATOR.sub("", _MARKER.sub("", sentence)).strip()
    cited: dict[int, str] = {}
    start = 0
    for marker in _MARKER.finditer(sentence):
        before = _ENUMERATOR.sub("", sentence[start : marker.start()]).strip(" ,;،؛")
        start = marker.end() if before else start
        words = before if len(terms(before)) >= CLAIM_TERMS else text
        for number in re.findall(r"\d+", marker[1]):
            cited.setdefault(int(number), words)
    return Claim(text, tuple(cited.items()))


def check(answer: str, passages: Sequence[Passage], bridge: Bridge) -> Checked:
    """Find every citation of `answer` in the numbered passages (from 1) and judge its sentences."""
    return _check(claims(answer), passages, bridge)


def _check(said: Sequence[Claim], passages: Sequence[Passage], bridge: Bridge) -> Checked:
    citations: dict[tuple[int, int, int], Citation] = {}
    dropped: dict[int, None] = {}
    supported, unsupported = 0, []
    sources = {number: _Source(passage) for number, passage in enumerate(passages, start=1)}
    for claim in said:
        found = False
        for number, words in claim.cited:
            source = sources.get(number)
            span = source.find(_Evidence(words, bridge)) if source else None
            if source is None or span is None:
                dropped[number] = None
            else:
                citations.setdefault((number, *span), _citation(number, source.passage, span))
                found = True
        evidence = _Evidence(claim.text, bridge)
        if len(evidence.terms) < CLAIM_TERMS:
            continue
        cited = [sources[number] for number, _ in claim.cited if number in sources]
        if _supported(evidence, cited or list(sources.values()), found=found):
            supported += 1
        else:
            unsupported.append(claim.text)
    kept = tuple(citations.values())[:MAX_CITATIONS]
    return Checked(kept, Validation(supported, tuple(unsupported), tuple(dropped)))


async def check_across(answer: str, passages: Sequence[Passage], bridge: Bridge, model: TutorModel) -> Checked:
    """Check an answer that may be in another language than its passages.

    Words that the glossary does not lead to their passage are translated into its language and looked for again.
    """
    said = claims(answer)
    checked = _check(said, passages, bridge)
    missing = set(checked.validation.dropped_citations)
    if not missing or model.free:
        return checked
    foreign = {
        (words, passages[number - 1].language)
        for claim in said
        for number, words in claim.cited
        if number in missing and number <= len(passages) and _foreign(words, passages[number - 1])
    }
    if not foreign:
        return checked
    wanted = sorted(foreign)[:MAX_TRANSLATIONS]
    translations = await asyncio.gather(*(_translated(model, words, language) for words, language in wanted))
    translated: dict[str, list[str]] = {}
    for (words, _), text in zip(wanted, translations, strict=True):
        translated.setdefault(words, []).append(text)
    return _check(said, passages, lambda words: [*bridge(words), *translated.get(words, ())])


def _foreign(words: str, passage: Passage) -> bool:
    return detect(words).language is not passage.language


async def _translated(model: TutorModel, words: str, language: Language) -> str:
    try:
        async with asyncio.timeout(TRANSLATION_SECONDS):
            return await model.translate(words, detect(words).language, language)
    except (ProviderFailure, TimeoutError):
        return ""


def _supported(evidence: "_Evidence", sources: "Sequence[_Source]", *, found: bool) -> bool:
    """Say whether the sources hold the sentence's numbers and, unless it was found in one, most of its terms."""
    if evidence.numbers and not evidence.numbers <= set().union(*(source.numbers for source in sources)):
        return False
    return found or any(evidence.coverage(source.terms) >= SUPPORTED_COVERAGE for source in sources)


def _citation(number: int, passage: Passage, span: tuple[int, int]) -> Citation:
    start, end = span
    return Citation(
        number=number,
        chunk_id=passage.chunk_id,
        document_id=passage.document_id,
        document_title=passage.document_title,
        page=passage.page,
        quote=passage.text[start:end],
        start=passage.start + start,
        end=passage.start + end,
    )


class _Evidence:
    """What the words of one sentence offer for finding it again."""

    def __init__(self, words: str, bridge: Bridge) -> None:
        self._words = words
        self._bridge = bridge

    @cached_property
    def terms(self) -> set[str]:
        return set(terms(self._words))

    @cached_property
    def numbers(self) -> set[str]:
        return set(_NUMBER.findall(canonical(self._words)))

    @cached_property
    def _counterparts(self) -> set[str]:
        return {term for words in self._bridge(self._words) for term in terms(words)}

    def verbatim(self) -> list[str]:
        """Return what may stand in a source word for word: quotations first, then the whole sentence."""
        quotations = [next(filter(None, match.groups())) for match in _QUOTATION.finditer(self._words)]
        wanted = (*quotations, self._words, self._words.rstrip(" .:;،,"))
        return [words for words in wanted if len(words) >= VERBATIM_CHARACTERS]

    def coverage(self, held: set[str]) -> float:
        """Return the share of the sentence's terms in `held`, directly or through their counterparts; 0 for too few."""
        least = min(LOCATED_TERMS, len(self.terms))
        direct = len(self.terms & held)
        if direct >= least and direct >= LOCATED_COVERAGE * len(self.terms):
            return direct / max(1, len(self.terms))
        shared = min(len(self.terms), direct + len(self._counterparts & held))
        return shared / len(self.terms) if shared >= least and self.terms else 0.0


class _Source:
    """A passage with what is compared, worked out once and only when it is needed."""

    def __init__(self, passage: Passage) -> None:
        self.passage = passage

    @cached_property
    def terms(self) -> set[str]:
        return set(terms(self.passage.text))

    @cached_property
    def numbers(self) -> set[str]:
        return set(_NUMBER.findall(canonical(self.passage.text)))

    @cached_property
    def _sentences(self) -> list[tuple[int, int, set[str]]]:
        text = self.passage.text
        return [(start, end, set(terms(text[start:end]))) for start, end in sentence_spans(text)]

    def find(self, evidence: _Evidence) -> tuple[int, int] | None:
        """Return the characters of the passage that a sentence rests on, or None."""
        for words in evidence.verbatim():
            span = locate(words, self.passage.text)
            if span is not None:
                return span
        if not self._sentences:
            return None
        alone = [evidence.coverage(held) for _, _, held in self._sentences]
        best = max(range(len(alone)), key=lambda place: (alone[place], -place))
        spans = [(alone[best], best, best)]
        for first, last in ((best - 1, best), (best, best + 1)):
            if first >= 0 and last < len(alone):
                both = evidence.coverage(self._sentences[first][2] | self._sentences[last][2])
                spans.append((both - SECOND_SENTENCE_COVERAGE, first, last))
        coverage, first, last = max(spans, key=lambda span: (span[0], span[1] == span[2]))
        return (self._sentences[first][0], self._sentences[last][1]) if coverage >= LOCATED_COVERAGE else None
