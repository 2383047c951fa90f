"""Promises of RetrievalService over a real channel: answers, refusals, resuming, cancelling."""

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import grpc
import pytest

from bacmr.v1 import errors_pb2, language_pb2, retrieval_pb2, retrieval_pb2_grpc
from server.retrieval.servicer import RetrievalServicer
from server.text.language import Language
from tests.rpc.served import Edge, Who, refusal
from tests.service.retrieval.retrieving import ANSWER, LESSONS, Process, running

QUESTION = "Quelle relation entre la force et l'accélération ?"
FINISH = retrieval_pb2.AskFinishReason


@pytest.fixture
async def process(database) -> AsyncIterator[Process]:
    async with running(database) as started:
        yield started


@pytest.fixture
async def edge(serve, process: Process) -> Edge:
    return await serve(RetrievalService=servicer(process))


@pytest.fixture
def stub(edge: Edge) -> retrieval_pb2_grpc.RetrievalServiceStub:
    return retrieval_pb2_grpc.RetrievalServiceStub(edge.channel)


@pytest.fixture
def enrol(people, make_user) -> Callable[..., Who]:
    """A function that makes a person with a wallet whom the server's verifier knows."""

    def enrol(**kinds) -> Who:
        user = make_user(**{"tokens": 20_000} | kinds)
        who = Who(f"token-{user.user_id}", user.user_id, user.role, user.tier)
        people.known[who.token] = who
        return who

    return enrol


@pytest.fixture
def student(enrol) -> Who:
    return enrol()


def servicer(process: Process) -> RetrievalServicer:
    return RetrievalServicer(process.room.searches, process.room.answers, process.room.conversations)


def ask_request(**fields) -> retrieval_pb2.AskRequest:
    return retrieval_pb2.AskRequest(**{"question": QUESTION, "request_id": str(uuid4())} | fields)


async def read(call) -> list[retrieval_pb2.AskEvent]:
    return [event async for event in call]


def text_of(events) -> str:
    return "".join(event.delta.text for event in events)


async def test_ask_streams_a_cited_answer_that_ends_with_its_receipt(stub, student: Who) -> None:
    asked = ask_request()
    events = await read(stub.Ask(asked, metadata=student.metadata))
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[0].started.detected_language == language_pb2.LANGUAGE_FRENCH
    passages = next(event.passages.passages for event in events if event.HasField("passages"))
    assert passages[0].text == LESSONS[0]
    assert text_of(events) == "".join(ANSWER)
    completed = events[-1].completed
    assert completed.finish_reason == FINISH.ASK_FINISH_REASON_STOP
    [citation] = completed.citations
    cited = next(passage for passage in passages if passage.chunk_id == citation.chunk_id)
    assert cited.text[citation.start - cited.start : citation.end - cited.start] == citation.quote
    assert completed.receipt.request_id == asked.request_id
    assert 0 < completed.receipt.charged_tokens <= events[0].started.max_charge_tokens


async def test_resume_replays_byte_for_byte_what_follows(stub, student: Who) -> None:
    events = await read(stub.Ask(ask_request(), metadata=student.metadata))
    answer_id = events[0].started.answer_id
    for after in (0, 3, len(events)):
        request = retrieval_pb2.ResumeAskRequest(answer_id=answer_id, after_sequence=after)
        replayed = await read(stub.ResumeAsk(request, metadata=student.metadata))
        serialized = [event.SerializeToString(deterministic=True) for event in replayed]
        assert serialized == [event.SerializeToString(deterministic=True) for event in events[after:]]


async def test_a_dropped_link_does_not_stop_or_bill_again(stub, process: Process, student: Who) -> None:
    process.model.gate, process.model.free_words = asyncio.Event(), 2
    call = stub.Ask(ask_request(), metadata=student.metadata)
    received = []
    async for event in call:
        received.append(event)
        if event.HasField("delta"):
            break
    call.cancel()
    process.model.gate.set()
    request = retrieval_pb2.ResumeAskRequest(
        answer_id=received[0].started.answer_id, after_sequence=received[-1].sequence
    )
    received += await read(stub.ResumeAsk(request, metadata=student.metadata))
    assert text_of(received) == "".join(ANSWER)
    assert received[-1].completed.finish_reason == FINISH.ASK_FINISH_REASON_STOP
    kept = await stub.ListAnswers(retrieval_pb2.ListAnswersRequest(), metadata=student.metadata)
    assert len(kept.answers) == 1


async def test_cancel_ends_the_stream_and_returns_the_receipt(stub, process: Process, student: Who) -> None:
    process.model.gate, process.model.free_words = asyncio.Event(), 2
    call = stub.Ask(ask_request(), metadata=student.metadata)
    events = aiter(call)
    started = await anext(events)
    async for event in events:
        if event.HasField("delta"):
            break
    request = retrieval_pb2.CancelAskRequest(answer_id=started.started.answer_id)
    cancelled = await stub.CancelAsk(request, metadata=student.metadata)
    *_, last = [event async for event in events]
    assert last.completed.finish_reason == FINISH.ASK_FINISH_REASON_CANCELLED
    assert cancelled.answer.receipt == last.completed.receipt
    assert cancelled.answer.text == "".join(ANSWER[:2])


async def test_no_passages_is_typed_and_comes_after_a_receipt_of_zero(serve, database, enrol) -> None:
    async with running(database, texts=()) as process:
        edge = await serve(RetrievalService=servicer(process))
        stub = retrieval_pb2_grpc.RetrievalServiceStub(edge.channel)
        student, events = enrol(), []
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for event in stub.Ask(ask_request(), metadata=student.metadata):
                events.append(event)
        kept = await stub.ListAnswers(retrieval_pb2.ListAnswersRequest(), metadata=student.metadata)
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND
    assert events[-1].completed.finish_reason == FINISH.ASK_FINISH_REASON_FAILED
    assert events[-1].completed.receipt.charged_tokens == 0
    assert [answer.failure_reason for answer in kept.answers] == [errors_pb2.ERROR_REASON_NO_PASSAGES]


async def test_a_small_wallet_is_refused_with_both_numbers(stub, enrol) -> None:
    refused = await refusal(stub.Ask(ask_request(), metadata=enrol(tokens=5).metadata))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INSUFFICIENT_BALANCE")
    assert set(refused.info.metadata) >= {"needed", "available"}


@pytest.mark.parametrize("asked", [language_pb2.LANGUAGE_UNSPECIFIED, language_pb2.LANGUAGE_OTHER])
async def test_an_answer_is_in_the_question_s_language_unless_one_of_ours_is_asked_for(
    stub, process: Process, student: Who, asked: int
) -> None:
    await read(stub.Ask(ask_request(answer_language=asked), metadata=student.metadata))
    assert process.model.tasks[-1].language is Language.FRENCH


async def test_a_sequence_that_was_never_sent_is_refused_by_name(stub, student: Who) -> None:
    events = await read(stub.Ask(ask_request(), metadata=student.metadata))
    request = retrieval_pb2.ResumeAskRequest(answer_id=events[0].started.answer_id, after_sequence=999)
    refused = await refusal(stub.ResumeAsk(request, metadata=student.metadata))
    [violation] = refused.details["BadRequest"].field_violations
    assert (violation.field, violation.reason) == ("after_sequence", "KNOWN_SEQUENCE")


async def test_a_request_id_with_another_question_is_refused(stub, student: Who) -> None:
    asked = ask_request()
    await read(stub.Ask(asked, metadata=student.metadata))
    asked.question = "Une autre question ?"
    refused = await refusal(stub.Ask(asked, metadata=student.metadata))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


@pytest.mark.parametrize(
    "broken", [{"question": "  "}, {"request_id": "no uuid"}, {"conversation_id": "7"}, {"question": "é" * 4001}]
)
async def test_a_broken_question_is_invalid(stub, student: Who, broken) -> None:
    refused = await refusal(stub.Ask(ask_request(**broken), metadata=student.metadata))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "BadRequest" in refused.details


async def test_every_method_wants_a_token(stub) -> None:
    answer_id = str(uuid4())
    calls = [
        stub.Search(retrieval_pb2.SearchRequest(query="force")),
        stub.EstimateAsk(retrieval_pb2.EstimateAskRequest(question=QUESTION)),
        stub.Ask(ask_request()),
        stub.ResumeAsk(retrieval_pb2.ResumeAskRequest(answer_id=answer_id)),
        stub.CancelAsk(retrieval_pb2.CancelAskRequest(answer_id=answer_id)),
        stub.GetAnswer(retrieval_pb2.GetAnswerRequest(answer_id=answer_id)),
        stub.ListAnswers(retrieval_pb2.ListAnswersRequest()),
        stub.ListConversations(retrieval_pb2.ListConversationsRequest()),
        stub.DeleteConversation(retrieval_pb2.DeleteConversationRequest(conversation_id=answer_id)),
        stub.RateAnswer(retrieval_pb2.RateAnswerRequest(answer_id=answer_id)),
    ]
    codes = [(await refusal(call)).code for call in calls]
    assert codes == [grpc.StatusCode.UNAUTHENTICATED] * len(calls)


async def test_another_persons_answer_is_not_found(stub, student: Who, enrol) -> None:
    answer_id = (await read(stub.Ask(ask_request(), metadata=student.metadata)))[0].started.answer_id
    other = enrol(role="admin").metadata
    calls = [
        stub.ResumeAsk(retrieval_pb2.ResumeAskRequest(answer_id=answer_id), metadata=other),
        stub.CancelAsk(retrieval_pb2.CancelAskRequest(answer_id=answer_id), metadata=other),
        stub.GetAnswer(retrieval_pb2.GetAnswerRequest(answer_id=answer_id), metadata=other),
        stub.RateAnswer(retrieval_pb2.RateAnswerRequest(answer_id=answer_id), metadata=other),
    ]
    assert [(await refusal(call)).code for call in calls] == [grpc.StatusCode.NOT_FOUND] * len(calls)


async def test_search_finds_passages_without_a_charge(stub, student: Who) -> None:
    found = await stub.Search(retrieval_pb2.SearchRequest(query=QUESTION), metadata=student.metadata)
    assert found.passages[0].text == LESSONS[0]
    assert found.detected_language == language_pb2.LANGUAGE_FRENCH
    assert "force" in {pair.term for pair in found.terms}


async def test_a_search_that_finds_nothing_is_answered_too(serve, database, enrol) -> None:
    async with running(database, texts=()) as process:
        edge = await serve(RetrievalService=servicer(process))
        stub = retrieval_pb2_grpc.RetrievalServiceStub(edge.channel)
        found = await stub.Search(retrieval_pb2.SearchRequest(query=QUESTION), metadata=enrol().metadata)
    assert not found.passages
    assert found.detected_language == language_pb2.LANGUAGE_FRENCH


async def test_search_names_what_degraded(stub, process: Process, student: Who) -> None:
    process.vectors.broken.add("dense")
    found = await stub.Search(retrieval_pb2.SearchRequest(query=QUESTION), metadata=student.metadata)
    assert {degraded.step for degraded in found.degraded} == {"dense"}


async def test_an_estimate_is_never_passed(stub, student: Who) -> None:
    estimate = await stub.EstimateAsk(retrieval_pb2.EstimateAskRequest(question=QUESTION), metadata=student.metadata)
    events = await read(stub.Ask(ask_request(), metadata=student.metadata))
    assert 0 < estimate.min_tokens <= estimate.likely_tokens <= estimate.max_tokens
    assert events[-1].completed.receipt.charged_tokens <= estimate.max_tokens


async def test_conversations_are_kept_rated_and_deleted(stub, student: Who) -> None:
    metadata = student.metadata
    started = (await read(stub.Ask(ask_request(), metadata=metadata)))[0].started
    rated = await stub.RateAnswer(
        retrieval_pb2.RateAnswerRequest(answer_id=started.answer_id, rating=retrieval_pb2.RATING_HELPFUL),
        metadata=metadata,
    )
    [thread] = (await stub.ListConversations(retrieval_pb2.ListConversationsRequest(), metadata=metadata)).conversations
    await stub.DeleteConversation(retrieval_pb2.DeleteConversationRequest(conversation_id=thread.id), metadata=metadata)
    refused = await refusal(
        stub.GetAnswer(retrieval_pb2.GetAnswerRequest(answer_id=started.answer_id), metadata=metadata)
    )
    assert rated.answer.rating == retrieval_pb2.RATING_HELPFUL
    assert (thread.id, thread.title, thread.answer_count) == (started.conversation_id, QUESTION, 1)
    assert refused.code == grpc.StatusCode.NOT_FOUND


async def test_a_damaged_page_token_is_invalid(stub, student: Who) -> None:
    request = retrieval_pb2.ListAnswersRequest(page_token="xx")
    assert (await refusal(stub.ListAnswers(request, metadata=student.metadata))).code == (
        grpc.StatusCode.INVALID_ARGUMENT
    )
