"""Reading streams: server-sent events, objects out of unfinished JSON, and what a reply told."""

import json
from collections.abc import AsyncIterator

import pytest

from server.models import replies
from server.models.jsonstream import ObjectStream
from server.models.port import FinishReason, ProviderFailure, QuestionKind, Usage
from server.models.sse import LINE_LIMIT, LineTooLong, data_lines

QUESTION = {
    "kind": "cloze",
    "stem": 'Une "matrice" { carrée } ____',
    "source_number": 1,
    "quote": "q",
    "accepted": ["x"],
}


async def arriving(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def lines(*chunks: bytes) -> list[list[bytes]]:
    return [payloads async for payloads in data_lines(arriving(*chunks))]


def chunk(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def delta(text: str, finish_reason: str | None = None) -> bytes:
    return chunk(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}])


async def test_what_one_read_brings_is_handed_on_together() -> None:
    assert await lines(b"data: 1\n\ndata: 2\n\n", b"data: 3\n\n") == [[b"1", b"2"], [b"3"]]


async def test_a_line_may_arrive_in_any_pieces() -> None:
    stream = "data: é\r\n\r\ndata:[DONE]\r\n\r\n".encode()
    arrived = await lines(*(bytes([byte]) for byte in stream))
    assert [payload for payloads in arrived for payload in payloads] == ["é".encode(), b"[DONE]"]


async def test_comments_and_other_fields_are_skipped() -> None:
    assert await lines(b": keep-alive\n\nevent: message\nid: 1\ndata: x\n\n") == [[b"x"]]


async def test_a_last_line_without_its_end_counts() -> None:
    assert await lines(b"data: x") == [[b"x"]]


async def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(LineTooLong):
        await lines(b"data: ", b"x" * LINE_LIMIT)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"questions": [QUESTION, QUESTION]}),
        json.dumps({"questions": [QUESTION, QUESTION]}, indent=2),
        json.dumps([QUESTION, QUESTION]),
        f"{json.dumps(QUESTION)}\n{json.dumps(QUESTION)}",
        f'Voici "le quiz:\n```json\n{json.dumps([QUESTION, QUESTION])}\n```',
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_objects_are_found_however_they_are_written_and_cut(text: str, size: int) -> None:
    stream = ObjectStream("stem")
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert [found for piece in pieces for found in stream.feed(piece)] == [QUESTION, QUESTION]


def test_an_object_is_found_with_its_last_brace() -> None:
    stream = ObjectStream("stem")
    text = json.dumps({"questions": [QUESTION, QUESTION]})
    end = text.index("}, {") + 1
    assert list(stream.feed(text[: end - 1])) == []
    assert list(stream.feed(text[end - 1 : end])) == [QUESTION]


@pytest.mark.parametrize("text", ["}}}", '{"stem": }', '{"stem": [1, 2}', "[1, 2]", '{"other": 1}', ""])
def test_what_is_no_such_object_is_passed_over(text: str) -> None:
    assert list(ObjectStream("stem").feed(text)) == []


def test_a_reply_tells_its_text_reason_and_usage() -> None:
    reply = replies.StreamedReply()
    assert reply.read([delta("Bon"), delta("jour")]) == "Bonjour"
    assert reply.read([delta("", "stop"), chunk(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 2})]) == ""
    assert not reply.done
    reply.read([b"[DONE]"])
    assert reply.done
    finished = reply.finished("m", lambda: 0)
    assert (finished.reason, finished.usage, finished.model) == (FinishReason.STOP, Usage(9, 2), "m")


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("content_filter", FinishReason.FILTERED),
        ("end_turn", FinishReason.STOP),
    ],
)
def test_each_finish_reason_has_its_meaning(told: str, meant: FinishReason) -> None:
    reply = replies.StreamedReply()
    reply.read([delta("x", told)])
    assert reply.finished("m", lambda: 1).reason is meant


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": "9"}])
def test_tokens_are_counted_here_when_none_are_told(usage: object) -> None:
    reply = replies.StreamedReply()
    reply.read([delta("one two three", "stop"), chunk(choices=[], usage=usage)])
    assert reply.finished("m", lambda: 7).usage == Usage(7, 3, counted_here=True)


def test_a_stream_that_did_not_say_why_it_ended_has_failed() -> None:
    reply = replies.StreamedReply()
    reply.read([delta("half an ans")])
    with pytest.raises(ProviderFailure) as failure:
        reply.finished("m", lambda: 1)
    assert failure.value.transient


@pytest.mark.parametrize(
    "payload",
    [b"{not json", b"[]", b'"text"', b"5", b'{"choices": 5}', b'{"choices": [5]}', b"\xff", delta(5)],  # type: ignore[arg-type]
)
def test_chunks_of_another_shape_are_a_failure(payload: bytes) -> None:
    with pytest.raises(ProviderFailure):
        replies.StreamedReply().read([payload])


def test_an_error_in_the_stream_is_a_failure_that_keeps_the_providers_words_out() -> None:
    with pytest.raises(ProviderFailure) as failure:
        replies.StreamedReply().read([chunk(error={"message": "SECRET"})])
    assert failure.value.transient
    assert "SECRET" not in str(failure.value)


def test_a_draft_of_the_right_shape_is_read() -> None:
    draft = replies.draft(QUESTION, [QuestionKind.CLOZE])
    assert draft is not None
    assert draft.kind is QuestionKind.CLOZE
    assert draft.accepted == ("x",)
    assert draft.options == ()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "essay"},
        {"kind": "single_choice"},
        {"stem": ""},
        {"stem": "x" * 5_000},
        {"quote": ""},
        {"source_number": "1"},
        {"options": ["x"] * 11},
        {"correct": ["a"]},
        {"accepted": "x"},
    ],
)
def test_a_draft_of_another_shape_is_dropped(change: dict[str, object]) -> None:
    assert replies.draft(QUESTION | change, [QuestionKind.CLOZE]) is None


def test_scores_become_shares_of_the_best_one() -> None:
    assert replies.scores('{"scores": [10, 5.0, -1, 12]}', 4) == [1.0, 0.5, 0.0, 1.0]


def test_scores_may_stand_in_a_code_block() -> None:
    assert replies.scores('```json\n{"scores": [1]}\n```', 1) == [0.1]


@pytest.mark.parametrize(
    "reply", ["", "[1, 2]", '{"scores": [1]}', '{"scores": [1, 2, 3]}', '{"scores": [1, "x"]}', '{"scores": [1, NaN]}']
)
def test_scores_that_do_not_fit_the_passages_are_a_failure(reply: str) -> None:
    with pytest.raises(ProviderFailure):
        replies.scores(reply, 2)
