"""What a query says: its language, its school terms in the other languages, its translation towards the corpus."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from server.cache.caches import Caches
from server.models.port import ProviderFailure, TutorModel
from server.retrieval.passage import Degraded, Step, TermPair
from server.text import glossary
from server.text.detection import Detection, normalise, prevailing_script
from server.text.detection import detect as detect_anew
from server.text.language import Language

TRANSLATION_SECONDS = 6.0
TRANSLATION_TTL_SECONDS = 24 * 60 * 60
TRANSLATION_CACHE_SIZE = 10_000
DETECTION_CACHE_SIZE = 2_000
FEW_WORDS = 3
"""A follow-up of so many words ("والثالث؟") does not tell the language by itself."""

TARGETS = {
    Language.FRENCH: (Language.ARABIC,),
    Language.ARABIC: (Language.FRENCH,),
    Language.HASSANIYA: (Language.ARABIC, Language.FRENCH),
    Language.OTHER: (Language.ARABIC, Language.FRENCH),
}
"""What a query is carried into when the library is not narrowed to one language; a model translates to the last."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query understood. `others` are the same query in other languages: translated, or its terms' counterparts."""

    text: str
    language: Language
    confidence: float
    others: tuple[tuple[Language, str], ...]
    terms: tuple[TermPair, ...]
    translation: str
    degraded: tuple[Degraded, ...]


@lru_cache(DETECTION_CACHE_SIZE)
def detect(text: str) -> Detection:
    """Name the language of a question; the parts of an answer that ask for it get one answer for one effort."""
    return detect_anew(text)


def detect_next(question: str, earlier: Sequence[str]) -> Detection:
    """Name the language of a question of a conversation: of a few words, as the question before and they say it."""
    if not earlier or len(question.split()) > FEW_WORDS:
        return detect(question)
    before, together = detect(earlier[-1]), detect(f"{earlier[-1]} {question}")
    same_script = prevailing_script(normalise(question)) in (prevailing_script(normalise(earlier[-1])), None)
    return together if same_script and before.language is together.language else detect(question)


class Understanding:
    """Understands queries. The glossary needs no model; a model, where there is one, translates whole sentences."""

    def __init__(self, model: TutorModel, caches: Caches) -> None:
        self._model = model
        self._translations = caches.make(
            TRANSLATION_CACHE_SIZE, TRANSLATION_TTL_SECONDS, "translation", encode=str, decode=str
        )

    async def understand(self, query: str, corpus_language: Language | None) -> Query:
        """Return what `query` says, carried towards `corpus_language` (None: towards the other school languages)."""
        detection = detect(query)
        targets = (corpus_language,) if corpus_language else TARGETS[detection.language]
        targets = tuple(target for target in targets if target is not detection.language)
        renderings = {target: glossary.render(query, detection.language, target) for target in targets}
        words = {target: rendering.search for target, rendering in renderings.items() if rendering}
        terms = tuple(
            TermPair(pair.said, pair.means, target)
            for target, rendering in renderings.items()
            if rendering
            for pair in rendering.pairs
        )
        translation, degraded = await self._translate(query, detection, targets, has_terms=bool(words))
        if translation:
            words[targets[-1]] = translation
        return Query(
            query, detection.language, detection.confidence, tuple(words.items()), terms, translation, degraded
        )

    async def _translate(
        self, query: str, detection: Detection, targets: tuple[Language, ...], *, has_terms: bool
    ) -> tuple[str, tuple[Degraded, ...]]:
        if self._model.free or not targets:
            return "", ()
        target = targets[-1]

        async def load(_: object) -> str:
            async with asyncio.timeout(TRANSLATION_SECONDS):
                return (await self._model.translate(query, detection.language, target)).strip()

        try:
            return await self._translations.get(f"{self._model.name}/{target}/{query}", load), ()
        except (ProviderFailure, TimeoutError):
            instead = "with its school terms in both languages" if has_terms else "as it was asked"
            return "", (Degraded(Step.TRANSLATION, f"Translation failed; the question was searched {instead}."),)


def counterparts(text: str) -> list[str]:
    """Return the school terms of a text in the other languages, one string per language."""
    language = detect(text).language
    renderings = (glossary.render(text, language, target) for target in TARGETS[language])
    return [rendering.search for rendering in renderings if rendering]
