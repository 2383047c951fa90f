"""Traces: one span per call with the right status, steps below it, and nothing at all while they are off."""

import asyncio
from uuid import uuid4

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from server.telemetry import traces

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter():
    found = InMemorySpanExporter()
    traces.configure("", exporter=found)
    yield found
    traces.shutdown()


def finished(exporter):
    traces.flush()
    return exporter.get_finished_spans()


def test_off_means_no_span_and_no_headers():
    assert traces.begin("/a.B/C", PARENT, uuid4()) is None
    with traces.step("milvus.search"):
        assert traces.headers() == {}


def test_a_call_its_steps_and_what_they_call_are_one_trace(exporter):
    request_id = uuid4()
    span = traces.begin("/bacmr.v1.RetrievalService/Ask", PARENT, request_id)
    with traces.step("milvus.search", namespace="math"):
        sent = traces.headers()["traceparent"]
    traces.end(span, "OK")
    step, call = finished(exporter)
    assert sent.split("-")[1] == PARENT.split("-")[1]
    assert call.parent.span_id == int(PARENT.split("-")[2], 16)
    assert step.parent.span_id == call.context.span_id
    assert (call.name, call.kind) == ("bacmr.v1.RetrievalService/Ask", SpanKind.SERVER)
    assert call.attributes["bacmr.request_id"] == str(request_id)
    assert call.attributes["rpc.grpc.status_code"] == "OK"
    assert call.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("INTERNAL", StatusCode.ERROR),
        ("DEADLINE_EXCEEDED", StatusCode.ERROR),
        ("CANCELLED", StatusCode.ERROR),
        ("NOT_FOUND", StatusCode.UNSET),
    ],
)
def test_a_spans_status_follows_the_calls(exporter, code, status):
    traces.end(traces.begin("/a.B/C", "", uuid4()), code)
    (call,) = finished(exporter)
    assert call.status.status_code is status


@pytest.mark.parametrize("error", [ValueError("x"), asyncio.CancelledError()])
def test_a_step_that_fails_or_is_cancelled_is_marked(exporter, error):
    with pytest.raises(type(error)), traces.step("model.chat"):
        raise error
    (step,) = finished(exporter)
    assert step.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize(
    ("error", "said"),
    [(None, ""), (ValueError("a student's words"), "ValueError"), (asyncio.CancelledError(), "CANCELLED")],
)
def test_a_step_that_ends_elsewhere_says_how_and_never_what_was_said(exporter, error, said):
    span = traces.begin("/a.B/C", "", uuid4())
    traces.begin_step("fake_answer")(error)
    traces.end(span, "OK")
    step, call = finished(exporter)
    assert step.parent.span_id == call.context.span_id
    assert step.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)
    assert (step.status.description or "") == said
    assert not step.events


def test_a_failed_step_does_not_keep_the_words_of_its_error(exporter):
    with pytest.raises(ValueError, match="student"), traces.step("postgresql.call"):
        raise ValueError("a student's words")
    (step,) = finished(exporter)
    assert (step.status.description, step.events) == ("ValueError", ())
