"""The chain: providers in order, retries within the deadline, one provider per answer, the last for what is left."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import numpy as np
import pytest

from server import caller, refusal
from server.models.attempts import LONGEST_LAST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, worth_waiting
from server.models.breakers import Breakers
from server.models.chain import ModelChain
from server.models.port import (
    AnswerTask,
    DraftQuestion,
    Finished,
    FinishReason,
    Matrix,
    ProviderFailure,
    ProviderState,
    Purpose,
    QuestionKind,
    QuizTask,
    Source,
    TextDelta,
    Turn,
    Usage,
)
from server.models.steady_embedder import SteadyEmbedder
from server.text.language import Language

SOURCE = Source(1, "text", "title", 1)
TASK = AnswerTask("q", (SOURCE,), Language.FRENCH, 100)
QUIZ = QuizTask("t", (SOURCE,), Language.FRENCH, 1, (QuestionKind.CLOZE,), "easy", 100)
DRAFT = DraftQuestion(QuestionKind.CLOZE, "s", (), (), ("a",), "", 1, "text")
END = Finished(FinishReason.STOP, Usage(1, 1), "m")
DOWN = ProviderFailure("status 500", transient=True)
REFUSED = ProviderFailure("status 401", transient=False)
Step = TextDelta | Finished | ProviderFailure


class Provider:
    """Serves what its script says: one item per try, the last one for ever; a failure is raised."""

    free = False

    def __init__(self, name: str, *tries: object) -> None:
        self.name = name
        self.calls = 0
        self.closed = 0
        self._tries = tries

    def prompt_tokens(self, task: AnswerTask | QuizTask) -> int:
        return len(self.name)

    async def answer(self, task: AnswerTask) -> AsyncGenerator[TextDelta | Finished]:
        script = self._next()
        try:
            for step in script if isinstance(script, tuple) else (script,):
                await asyncio.sleep(0)
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.closed += 1

    async def quiz(self, task: QuizTask) -> AsyncGenerator[DraftQuestion | Finished]:
        self._result()
        yield DRAFT
        yield END

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float(len(self.name))] * len(self._result() and texts)

    async def translate(self, text: str, source: Language, target: Language) -> str:
        return f"{self.name} {self._result()}"

    async def standalone(self, question: str, history: Sequence[Turn]) -> str:
        return f"{self.name} {self._result()}"

    def _next(self) -> object:
        self.calls += 1
        return self._tries[min(self.calls, len(self._tries)) - 1]

    def _result(self) -> object:
        item = self._next()
        if isinstance(item, Exception):
            raise item
        return item


def said(*texts: str) -> tuple[object, ...]:
    return (*map(TextDelta, texts), END)


def chain(*providers: Provider, last: Provider | None = None, failures: int = 100) -> ModelChain:
    return ModelChain(providers, Breakers(failures, 60), last=last)


async def events(model: ModelChain) -> list[TextDelta | Finished]:
    return [event async for event in model.answer(TASK)]


async def test_the_first_provider_answers_while_it_can() -> None:
    first, second = Provider("first", said("a", "b")), Provider("second", said("x"))
    assert await events(chain(first, second)) == [TextDelta("a"), TextDelta("b"), END]
    assert second.calls == 0


async def test_the_next_provider_answers_when_the_first_is_down() -> None:
    first, second = Provider("first", DOWN), Provider("second", said("x"))
    assert await events(chain(first, second)) == [TextDelta("x"), END]


async def test_a_transient_failure_is_tried_again_once() -> None:
    first, second = Provider("first", DOWN, said("a")), Provider("second", said("x"))
    assert await events(chain(first, second)) == [TextDelta("a"), END]
    assert (first.calls, second.calls) == (2, 0)


async def test_a_permanent_failure_is_not_tried_again() -> None:
    first, second = Provider("first", REFUSED, said("a")), Provider("second", said("x"))
    assert await events(chain(first, second)) == [TextDelta("x"), END]
    assert first.calls == 1


async def test_after_the_first_text_there_is_no_other_provider_and_no_other_try() -> None:
    first, second = Provider("first", (TextDelta("half "), DOWN)), Provider("second", said("x"))
    heard: list[object] = []
    with pytest.raises(ProviderFailure):
        async for event in chain(first, second).answer(TASK):
            heard.append(event)
    assert heard == [TextDelta("half ")]
    assert (first.calls, second.calls) == (1, 0)


@pytest.mark.parametrize("script", [(END,), ()])
async def test_an_empty_answer_goes_to_the_next_provider(script: tuple[object, ...]) -> None:
    first, second = Provider("first", script), Provider("second", said("x"))
    assert await events(chain(first, second)) == [TextDelta("x"), END]


async def test_a_stream_without_its_last_event_has_failed() -> None:
    with pytest.raises(ProviderFailure):
        await events(chain(Provider("first", (TextDelta("a"),))))


async def test_when_all_fail_the_answer_fails_and_is_not_left_to_the_last() -> None:
    last = Provider("local", said("quote"))
    with pytest.raises(ProviderFailure) as failure:
        await events(chain(Provider("first", DOWN), Provider("second", REFUSED), last=last))
    assert failure.value.transient
    assert last.calls == 0


async def test_when_all_fail_a_quiz_is_not_left_to_the_last_either() -> None:
    last = Provider("local", said("quote"))
    with pytest.raises(ProviderFailure):
        await anext(chain(Provider("first", DOWN), last=last).quiz(QUIZ))
    assert last.calls == 0


async def test_the_last_serves_everything_else() -> None:
    last = Provider("local", "result")
    model = chain(Provider("first", DOWN), last=last)
    assert await model.rerank("q", ["a", "b"]) == [5.0, 5.0]
    assert await model.translate("t", Language.FRENCH, Language.ARABIC) == "local result"
    assert await model.standalone("q", []) == "local result"


async def test_a_step_that_nobody_serves_fails() -> None:
    with pytest.raises(ProviderFailure):
        await chain(Provider("first", DOWN)).rerank("q", ["a"])


async def test_a_provider_that_keeps_failing_is_left_alone() -> None:
    first, second = Provider("first", DOWN), Provider("second", said("x"))
    model = chain(first, second, failures=3)
    for _ in range(5):
        await events(model)
    assert first.calls == 3
    assert model.states() == [ProviderState("first", {"answer": 1}), ProviderState("second", {"answer": 0})]


async def test_a_provider_that_breaks_off_again_and_again_is_left_alone() -> None:
    first, second = Provider("first", (TextDelta("a"), DOWN)), Provider("second", said("x"))
    model = chain(first, second, failures=3)
    for _ in range(3):
        with pytest.raises(ProviderFailure):
            await events(model)
    assert await events(model) == [TextDelta("x"), END]


async def test_each_operation_has_its_own_breaker() -> None:
    first = Provider("first", DOWN, DOWN, DOWN, "result")
    model = chain(first, failures=3)
    for _ in range(2):
        with pytest.raises(ProviderFailure):
            await model.rerank("q", ["a"])
    assert await model.translate("t", Language.FRENCH, Language.ARABIC) == "first result"
    assert model.states() == [ProviderState("first", {"rerank": 1, "translate": 0})]


async def test_listeners_who_leave_stop_the_provider_and_do_not_count_as_its_failure() -> None:
    first = Provider("first", said("a", "b", "c"))
    model = chain(first, failures=1)
    for _ in range(3):
        stream = model.answer(TASK)
        assert await anext(stream) == TextDelta("a")
        await stream.aclose()  # type: ignore[attr-defined]
    assert first.closed == 3
    assert model.states() == [ProviderState("first", {"answer": 0})]


async def test_the_deadline_cuts_a_provider_that_says_nothing() -> None:
    class Silent(Provider):
        async def answer(self, task: AnswerTask) -> AsyncGenerator[TextDelta | Finished]:
            self.calls += 1
            await asyncio.Event().wait()
            yield END

    silent, second = Silent("silent"), Provider("second", said("x"))
    model = chain(silent, second, failures=1)
    deadline = caller.Caller(deadline_at=asyncio.get_running_loop().time() + 0.02)
    with caller.acting_as(deadline), pytest.raises(refusal.DeadlineExceeded):
        await events(model)
    assert model.states()[0] == ProviderState("silent", {"answer": 0})


async def test_a_pause_longer_than_what_is_left_goes_to_the_next_provider_at_once() -> None:
    busy = ProviderFailure("status 429", transient=True, retry_after_seconds=1.0)
    first, second = Provider("first", busy), Provider("second", said("x"))
    deadline = caller.Caller(deadline_at=asyncio.get_running_loop().time() + 0.5)
    with caller.acting_as(deadline):
        assert await events(chain(first, second)) == [TextDelta("x"), END]
    assert first.calls == 1


async def test_a_short_pause_that_a_provider_asks_for_is_kept() -> None:
    busy = ProviderFailure("status 429", transient=True, retry_after_seconds=0.02)
    first = Provider("first", busy, said("a"))
    began_at = asyncio.get_running_loop().time()
    await events(chain(first))
    assert asyncio.get_running_loop().time() - began_at >= 0.02


@pytest.mark.parametrize(
    ("wanted", "remaining", "is_last", "worth"),
    [
        (0.0, None, False, True),
        (LONGEST_PAUSE_SECONDS, None, False, True),
        (LONGEST_PAUSE_SECONDS + 1, None, False, False),
        (LONGEST_PAUSE_SECONDS + 1, None, True, True),
        (LONGEST_LAST_PAUSE_SECONDS + 1, None, True, False),
        (1.0, 1.0, True, False),
        (1.0, 1.1, False, True),
    ],
)
def test_a_pause_must_fit_and_be_worth_it(wanted: float, remaining: float | None, is_last: bool, worth: bool) -> None:
    assert worth_waiting(wanted, remaining, is_last=is_last) is worth


async def test_the_quoted_prompt_is_that_of_the_most_expensive_provider() -> None:
    assert chain(Provider("a"), Provider("longer"), Provider("bb")).prompt_tokens(TASK) == len("longer")


async def test_failures_are_told_with_provider_operation_and_problem() -> None:
    told: list[tuple[str, str, str]] = []
    model = ModelChain(
        [Provider("first", REFUSED), Provider("second", said("x"))],
        Breakers(),
        on_failure=lambda *failure: told.append(failure),
    )
    await events(model)
    assert told == [("first", "answer", "status 401")]


class Space:
    """An embedder that fails as told."""

    name, dimensions = "space", 4

    def __init__(self, *tries: Exception | None) -> None:
        self._tries = list(tries)
        self.calls = 0

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Matrix:
        self.calls += 1
        failure = self._tries.pop(0) if self._tries else None
        if failure:
            raise failure
        return np.eye(4, dtype=np.float32)[: len(texts)]


async def test_an_embedder_is_tried_again_once() -> None:
    space = Space(DOWN)
    steady = SteadyEmbedder(space, Breakers())
    assert (await steady.embed(["a"], Purpose.QUERY)).shape == (1, 4)
    assert space.calls == 2
    assert (steady.name, steady.dimensions) == ("space", 4)


async def test_an_embedder_that_keeps_failing_is_left_alone() -> None:
    space = Space(*[DOWN] * 10)
    steady = SteadyEmbedder(space, Breakers(3, 60))
    for _ in range(4):
        with pytest.raises(ProviderFailure) as failure:
            await steady.embed(["a"], Purpose.QUERY)
        assert failure.value.transient
    assert space.calls == 3
