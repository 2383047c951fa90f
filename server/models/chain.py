"""The fallback chain: providers in their order, each behind its breakers, and never two of them in one answer."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final, TypeVar

import structlog

from server.models.attempts import attempted, within_deadline
from server.models.breakers import Breakers, Open
from server.models.port import (
    AnswerTask,
    DraftQuestion,
    Finished,
    ProviderFailure,
    ProviderState,
    QuizTask,
    TextDelta,
    Turn,
    TutorModel,
)
from server.text.language import Language

T = TypeVar("T")
_log = structlog.get_logger(__name__)

GENERATION_SECONDS: Final = 180.0
"""The longest answer or quiz; each wait for bytes is bounded by the provider's own timeout."""
STEP_SECONDS: Final = 10.0
"""The longest small call (rerank, translation, standalone question), all tries of one provider apart."""
OPERATIONS: Final = ("answer", "quiz", "rerank", "translate", "standalone")


class ModelChain:
    """Implements `server.models.port.TutorModel` over several providers, asked in order until one serves.

    `last` serves what none of them could, except answers and quizzes: those end in ProviderFailure, because quoting
    instead must be said to the student and not charged, which their rooms do.
    """

    def __init__(
        self,
        providers: Sequence[TutorModel],
        breakers: Breakers,
        *,
        last: TutorModel | None = None,
        on_failure: Callable[[str, str, str], None] = lambda provider, operation, problem: None,
    ) -> None:
        self._providers = tuple(providers)
        self._breakers = breakers
        self._last = last
        self._on_failure = on_failure

    @property
    def name(self) -> str:
        """Name of the first provider."""
        return self._providers[0].name

    @property
    def free(self) -> bool:
        """True when every provider that may answer is free."""
        return all(provider.free for provider in self._providers)

    def states(self) -> list[ProviderState]:
        """Return each provider's breakers, by operation, for operators and traces."""
        states = self._breakers.states()
        return [
            ProviderState(
                provider.name,
                {name: states[service] for name in OPERATIONS if (service := _service(provider, name)) in states},
            )
            for provider in self._providers
        ]

    def prompt_tokens(self, task: AnswerTask | QuizTask) -> int:
        """Count the prompt tokens at the provider where they are most, since any of them may serve."""
        return max(provider.prompt_tokens(task) for provider in self._providers)

    def answer(self, task: AnswerTask) -> AsyncGenerator[TextDelta | Finished]:
        """Stream an answer of the first provider that begins one; after its first text there is no other provider."""
        return self._stream("answer", lambda model: model.answer(task))

    def quiz(self, task: QuizTask) -> AsyncGenerator[DraftQuestion | Finished]:
        """Stream draft questions of the first provider that begins them."""
        return self._stream("quiz", lambda model: model.quiz(task))

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return a relevance score per text, all from one provider."""
        return await self._first("rerank", lambda model: model.rerank(query, texts))

    async def translate(self, text: str, source: Language, target: Language) -> str:
        """Translate a short text."""
        return await self._first("translate", lambda model: model.translate(text, source, target))

    async def standalone(self, question: str, history: Sequence[Turn]) -> str:
        """Rewrite a follow-up question so that it can be understood without the conversation."""
        return await self._first("standalone", lambda model: model.standalone(question, history))

    async def _first(self, operation: str, call: Callable[[TutorModel], Awaitable[T]]) -> T:
        links = self._providers if self._last is None else (*self._providers, self._last)
        for link in links:
            try:
                result, passage = await attempted(
                    self._breakers,
                    _service(link, operation),
                    partial(_in_time, call, link),
                    is_last=link is links[-1],
                )
            except (ProviderFailure, Open) as problem:
                self._note(link, operation, problem)
                continue
            passage.end()
            return result
        raise ProviderFailure(f"no provider serves {operation}", transient=True)

    async def _stream(self, operation: str, begin: Callable[[TutorModel], AsyncGenerator[T]]) -> AsyncGenerator[T]:
        for link in self._providers:
            try:
                (first, rest), passage = await attempted(
                    self._breakers,
                    _service(link, operation),
                    partial(_begun, begin, link),
                    is_last=link is self._providers[-1],
                )
            except (ProviderFailure, Open) as problem:
                self._note(link, operation, problem)
                continue
            try:
                with passage:
                    async with aclosing(_continued(first, rest)) as events:
                        async for event in events:
                            yield event
            except ProviderFailure as problem:
                self._note(link, operation, problem)
                raise
            return
        raise ProviderFailure(f"no provider serves {operation}", transient=True)

    def _note(self, link: TutorModel, operation: str, problem: Exception) -> None:
        reason = "left alone after failures" if isinstance(problem, Open) else str(problem)
        _log.warning("model_failed", provider=link.name, operation=operation, problem=reason)
        self._on_failure(link.name, operation, reason)


def _service(model: TutorModel, operation: str) -> str:
    return f"{model.name}_{operation}"


async def _in_time(call: Callable[[TutorModel], Awaitable[T]], model: TutorModel) -> T:
    try:
        async with asyncio.timeout(STEP_SECONDS):
            return await call(model)
    except TimeoutError:
        raise ProviderFailure(f"no reply within {STEP_SECONDS:.0f} s", transient=True) from None


async def _begun(begin: Callable[[TutorModel], AsyncGenerator[T]], model: TutorModel) -> tuple[T, AsyncGenerator[T]]:
    """Return the first event of a stream and the rest; a stream that ends before any content has failed."""
    stream = begin(model)
    try:
        first = await anext(stream)
    except StopAsyncIteration:
        raise ProviderFailure("the stream ended before it began", transient=True) from None
    if isinstance(first, Finished):
        raise ProviderFailure("the reply is empty", transient=True)
    return first, stream


async def _continued(first: T, rest: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """Yield all events of a stream that began, within the caller's deadline and our own limit."""
    clock = asyncio.get_running_loop().time
    end_at = clock() + GENERATION_SECONDS
    event = first
    async with aclosing(rest):
        while True:
            yield event
            if isinstance(event, Finished):
                return
            if clock() > end_at:
                raise ProviderFailure(f"not ended within {GENERATION_SECONDS:.0f} s", transient=True)
            try:
                event = await within_deadline(anext(rest))
            except StopAsyncIteration:
                raise ProviderFailure("the stream ended without its last event", transient=True) from None
