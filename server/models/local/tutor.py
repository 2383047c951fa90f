"""The local tutor: the last link of the model chain, and the whole of it where no endpoint is configured.

It costs nothing, needs no network and never fails; it quotes instead of writing.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from server.models.local.answerer import answer
from server.models.local.quizwriter import write
from server.models.local.reranker import rerank
from server.models.port import (
    AnswerTask,
    DraftQuestion,
    Finished,
    FinishReason,
    ProviderFailure,
    QuizTask,
    TextDelta,
    Turn,
    Usage,
)
from server.text.analysis import words
from server.text.glossary import render
from server.text.language import Language
from server.text.stopwords import STOP_WORDS
from server.text.tokens import count

MODEL: Final = "local-quotes-v1"
WORDS_THAT_STAND_ALONE: Final = 2
"""A question with fewer content words leans on what was asked before."""

_POINTS_BACK: Final = re.compile(
    r"^\W*(?:et\b|mais\b|alors\b|donc\b|و(?:ماذا|ما|من|كيف|لماذا|هل|متى|أين|كم|ال\w{4,}|\s)|w\b)"
    r"|\b(?:celui-ci|celle-ci|cela|ça|ceci|ce dernier|cette derniere|son|sa|ses|leur|leurs|il|elle|ils|elles)\b"
    r"|(?<!\w)(?:هذا|هذه|ذلك|تلك|منه|منها|عنه|عنها|فيه|فيها|له|لها|ذاك|ذيك|عنو)(?!\w)",
    re.IGNORECASE,
)


class LocalTutor:
    """The embedded default of the TutorModel port."""

    @property
    def name(self) -> str:
        """Provider name."""
        return "local"

    @property
    def free(self) -> bool:
        """Quoting costs the student nothing."""
        return True

    def prompt_tokens(self, task: AnswerTask | QuizTask) -> int:
        """Count the question and the sources: what a generation reads."""
        asked = task.question if isinstance(task, AnswerTask) else task.topic
        return count(asked) + sum(count(source.text) for source in task.sources)

    async def answer(self, task: AnswerTask) -> AsyncGenerator[TextDelta | Finished]:
        """Stream quoted sentences with their citations, one sentence a delta."""
        tokens = 0
        for text in answer(task):
            tokens += count(text)
            yield TextDelta(text)
            await asyncio.sleep(0)
        yield self._finished(task, tokens)

    async def quiz(self, task: QuizTask) -> AsyncGenerator[DraftQuestion | Finished]:
        """Stream draft questions made from the sources' sentences; the same task and seed give the same quiz."""
        tokens = 0
        for draft in write(task):
            used = count(" ".join((draft.stem, *draft.options, *draft.accepted, draft.explanation)))
            if tokens + used > task.max_tokens:
                break
            tokens += used
            yield draft
            await asyncio.sleep(0)
        yield self._finished(task, tokens)

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return a relevance score per text, from the evidence in the words."""
        return rerank(query, texts)

    async def translate(self, text: str, source: Language, target: Language) -> str:
        """Carry the school terms of a question into another language.

        Raises ProviderFailure (not transient) when the glossary knows none of its words.
        """
        if source is target:
            return text
        rendering = render(text, source, target)
        if rendering is None:
            raise ProviderFailure("The glossary knows no term of this text.", transient=False)
        return rendering.text

    async def standalone(self, question: str, history: Sequence[Turn]) -> str:
        """Put the last question that stands alone in front of a follow-up that does not."""
        if not history or not _leans(question):
            return question
        earlier = next((turn.question for turn in reversed(history) if not _leans(turn.question)), history[-1].question)
        return f"{earlier} {question}"

    def _finished(self, task: AnswerTask | QuizTask, tokens: int) -> Finished:
        return Finished(FinishReason.STOP, Usage(self.prompt_tokens(task), tokens, counted_here=True), MODEL)


def _leans(question: str) -> bool:
    content = [word for word in words(question) if word not in STOP_WORDS]
    return len(content) < WORDS_THAT_STAND_ALONE or bool(_POINTS_BACK.search(question))
