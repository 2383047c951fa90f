"""Every way an OpenAI-compatible endpoint fails, seen on the wire, and what becomes of it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import UUID

import numpy as np
import pytest
import pytest_asyncio

from server import caller
from server.models.breakers import Breakers
from server.models.chain import ModelChain
from server.models.openai_compatible import OpenAITutor
from server.models.openai_embedder import OpenAIEmbedder
from server.models.openai_failures import retry_after_seconds
from server.models.port import (
    AnswerTask,
    Finished,
    FinishReason,
    ProviderFailure,
    Purpose,
    QuestionKind,
    QuizTask,
    Source,
    TextDelta,
    Usage,
)
from server.text.language import Language
from tests.openai_server import PROMPT_TOKENS, Wire, serving

TASK = AnswerTask("Que produit la photosynthèse ?", (Source(1, "Du dioxygène.", "Biologie", 3),), Language.FRENCH, 5)
QUIZ = QuizTask("t", TASK.sources, Language.FRENCH, 1, (QuestionKind.CLOZE,), "easy", 200)
FULL = "tok0 tok1 tok2 tok3 tok4 "
SECRET = "SECRET-IN-MESSAGE"
IMPATIENT_SECONDS = 0.15


@pytest_asyncio.fixture(scope="module")
async def wire() -> AsyncIterator[Wire]:
    async with serving() as opened:
        yield opened


def tutor(wire: Wire, mode: str, **options: object) -> OpenAITutor:
    return OpenAITutor("fake", wire.url, f"m:{mode}", "key", timeout_seconds=IMPATIENT_SECONDS, **options)  # type: ignore[arg-type]


async def answered(model: OpenAITutor) -> tuple[str, Finished]:
    text = ""
    try:
        async for event in model.answer(TASK):
            if isinstance(event, Finished):
                return text, event
            text += event.text
    finally:
        await model.close()
    raise AssertionError("the stream ended without its last event")


@pytest.mark.parametrize(
    ("mode", "transient", "retry_after"),
    [
        ("429", True, 1.0),
        ("429slow", True, 100.0),
        ("quota", False, None),
        ("500", True, None),
        ("401", False, None),
        ("400", False, None),
        ("stall", True, None),
        ("html", True, None),
        ("empty", True, None),
        ("badjson", True, None),
    ],
)
async def test_a_call_that_fails_is_a_provider_failure(
    wire: Wire, mode: str, transient: bool, retry_after: float | None
) -> None:
    async def rerank() -> None:
        model = tutor(wire, mode)
        try:
            await model.rerank("q", ["a"])
        finally:
            await model.close()

    for call in (answered(tutor(wire, mode)), rerank()):
        with pytest.raises(ProviderFailure) as failure:
            await call
        assert failure.value.transient is transient
        assert failure.value.retry_after_seconds == retry_after
        assert SECRET not in str(failure.value)


@pytest.mark.parametrize("mode", ["cut", "cutclean", "midstall", "miderr", "midbad"])
async def test_a_stream_that_breaks_fails_after_what_it_said(wire: Wire, mode: str) -> None:
    model, text = tutor(wire, mode), ""
    with pytest.raises(ProviderFailure) as failure:
        async for event in model.answer(TASK):
            assert isinstance(event, TextDelta)
            text += event.text
    await model.close()
    assert failure.value.transient
    assert FULL.startswith(text)


async def test_a_dead_port_is_a_transient_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ProviderFailure) as failure:
        await answered(OpenAITutor("dead", f"http://127.0.0.1:{port}/v1", "m"))
    assert failure.value.transient


@pytest.mark.parametrize("mode", ["", "crlf", "comments", "split", "gap=0.001"])
async def test_a_stream_is_read_however_it_is_cut(wire: Wire, mode: str) -> None:
    text, finished = await answered(tutor(wire, mode))
    assert text == FULL
    assert finished == Finished(FinishReason.STOP, Usage(PROMPT_TOKENS, 5), f"m:{mode}")


async def test_without_usage_tokens_are_counted_here(wire: Wire) -> None:
    model = tutor(wire, "nousage")
    bound = model.prompt_tokens(TASK)
    _, finished = await answered(model)
    assert finished.usage.counted_here
    assert 5 <= finished.usage.completion_tokens <= 20
    assert 0 < finished.usage.prompt_tokens <= bound


@pytest.mark.parametrize(("mode", "reason"), [("length", FinishReason.LENGTH), ("filtered", FinishReason.FILTERED)])
async def test_why_a_model_stopped_is_told(wire: Wire, mode: str, reason: FinishReason) -> None:
    assert (await answered(tutor(wire, mode)))[1].reason is reason


async def test_closing_a_stream_stops_the_provider(wire: Wire) -> None:
    model, before = tutor(wire, "gap=0.05"), wire.cancelled_streams
    stream = model.answer(TASK)
    await anext(stream)
    assert wire.open_streams == 1
    await stream.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(5):
        while wire.open_streams:  # noqa: ASYNC110 - the server notices by itself
            await asyncio.sleep(0.005)
    assert wire.cancelled_streams == before + 1
    await model.close()


async def test_the_request_id_goes_to_the_provider(wire: Wire) -> None:
    request_id = UUID(int=77)
    with caller.acting_as(caller.Caller(request_id=request_id)):
        await answered(tutor(wire, ""))
    assert wire.headers[-1]["x-request-id"] == wire.headers[-1]["x-client-request-id"] == str(request_id)


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_the_token_limit_goes_into_the_field_the_provider_knows(wire: Wire, field: str) -> None:
    await answered(tutor(wire, "", token_param=field))
    body = wire.requests[-1]
    assert body[field] == TASK.max_tokens
    assert {"max_tokens", "max_completion_tokens"} - {field} - body.keys()


async def test_usage_is_asked_for_and_no_retries_are_made_by_the_sdk(wire: Wire) -> None:
    await answered(tutor(wire, ""))
    assert wire.requests[-1]["stream_options"] == {"include_usage": True}
    with pytest.raises(ProviderFailure):
        await answered(tutor(wire, "500"))
    before = wire.hits["m:500"]
    with pytest.raises(ProviderFailure):
        await answered(tutor(wire, "500"))
    assert wire.hits["m:500"] == before + 1


@pytest.mark.parametrize("supports_schema", [True, False])
async def test_schemas_are_sent_to_providers_that_take_them_only(wire: Wire, supports_schema: bool) -> None:
    model = tutor(wire, "", supports_schema=supports_schema)
    with pytest.raises(ProviderFailure):
        await model.rerank("q", ["a"])
    await model.close()
    assert ("response_format" in wire.requests[-1]) is supports_schema


async def test_a_quiz_without_a_usable_question_is_a_failure(wire: Wire) -> None:
    model = tutor(wire, "")
    with pytest.raises(ProviderFailure):
        [event async for event in model.quiz(QUIZ)]
    await model.close()


async def test_the_small_model_does_the_small_work(wire: Wire) -> None:
    model = tutor(wire, "", small_model="mini")
    await model.translate("Bonjour", Language.FRENCH, Language.ARABIC)
    assert wire.requests[-1]["model"] == "mini"
    small = AnswerTask(TASK.question, TASK.sources, TASK.language, 5, small=True)
    [event async for event in model.answer(small)]
    assert wire.requests[-1]["model"] == "mini"
    await model.close()


async def test_a_connection_serves_one_answer_after_the_other(wire: Wire) -> None:
    model = tutor(wire, "")
    for _ in range(3):
        [event async for event in model.answer(TASK)]
    pool = model._client._client._transport._pool  # type: ignore[attr-defined]
    assert len(pool.connections) == 1
    await model.close()


async def test_each_request_is_measured(wire: Wire) -> None:
    seen: list[tuple[str, str, int]] = []
    options = {"observe": lambda model, endpoint, seconds, tokens: seen.append((model, endpoint, tokens))}
    await answered(tutor(wire, "", **options))
    with pytest.raises(ProviderFailure):
        await answered(tutor(wire, "401", **options))
    assert seen == [("m:", "chat", PROMPT_TOKENS + 5), ("m:401", "chat", 0)]


async def test_what_a_stream_used_that_broke_or_was_left_is_measured_too(wire: Wire) -> None:
    used: list[int] = []
    options = {"observe": lambda model, endpoint, seconds, tokens: used.append(tokens)}
    with pytest.raises(ProviderFailure):
        await answered(tutor(wire, "miderr", **options))
    left = tutor(wire, "gap=0.01", **options)
    async with aclosing(left.answer(TASK)) as events:
        await anext(events)
    prompt = left.prompt_tokens(TASK) / 2
    await left.close()
    assert len(used) == 2
    assert min(used) > prompt


async def test_a_chain_over_the_wire_falls_through_to_the_provider_that_answers(wire: Wire) -> None:
    providers = [OpenAITutor(mode, wire.url, f"chain:{mode}") for mode in ("500", "429slow", "401", "")]
    model = ModelChain(providers, Breakers(3, 60))
    for _ in range(3):
        events = [event async for event in model.answer(TASK)]
        assert isinstance(events[-1], Finished)
        assert events[-1].model == "chain:"
    states = {state.name: state.breakers["answer"] for state in model.states()}
    assert states == {"500": 1, "429slow": 1, "401": 0, "": 0}
    for provider in providers:
        await provider.close()


async def embedded(wire: Wire, mode: str, texts: list[str], dimensions: int = 64) -> np.ndarray:
    embedder = OpenAIEmbedder(wire.url, f"e:{mode}", dimensions, "key", timeout_seconds=IMPATIENT_SECONDS)
    try:
        return await embedder.embed(texts, Purpose.PASSAGE)
    finally:
        await embedder.close()


@pytest.mark.parametrize(
    ("mode", "transient"),
    [
        *((mode, True) for mode in ("429", "500", "stall", "html", "badjson", "empty", "nan", "zero")),
        *((mode, False) for mode in ("401", "400", "quota", "short", "fewer")),
    ],
)
async def test_embeddings_that_fail_are_a_provider_failure(wire: Wire, mode: str, transient: bool) -> None:
    with pytest.raises(ProviderFailure) as failure:
        await embedded(wire, mode, ["a", "b"])
    assert failure.value.transient is transient


@pytest.mark.parametrize("mode", ["floats", "shuffled", "nodimensions"])
async def test_embeddings_come_out_the_same_however_they_are_sent(wire: Wire, mode: str) -> None:
    plain = await embedded(wire, "", ["a", "b"])
    assert np.allclose(await embedded(wire, mode, ["a", "b"]), plain, atol=1e-6)


async def test_many_texts_go_in_batches_and_keep_their_order(wire: Wire) -> None:
    texts = [f"text {number}" for number in range(200)]
    before = wire.hits["e:"]
    together = await embedded(wire, "", texts)
    assert wire.hits["e:"] == before + 3
    assert np.allclose(together[150], (await embedded(wire, "", [texts[150]]))[0], atol=1e-6)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, 50.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_a_pause_may_be_given_in_seconds_or_as_a_date(header: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(header, now=10.0) == seconds
