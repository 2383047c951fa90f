"""One question as one trace: from the caller through the server to its database and its model."""

import asyncio
import json
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from bacmr.client import BacmrClient
from bacmr.v1 import retrieval_pb2
from tests import openai_server
from tests.e2e.conftest import OPERATOR, passable_folder, start
from tests.e2e.test_main_job import SAMPLES, ingest

QUESTION = "Quel est le principe d'inertie énoncé par Newton ?"
CALLERS_SPAN = "b7ad6b7169203331"
PAUSE_SECONDS = 0.05


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans it is sent."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    async def Export(self, request, context):
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()


def traceparent(trace: str) -> tuple[tuple[str, str], ...]:
    return (("traceparent", f"00-{trace}-{CALLERS_SPAN}-01"),)


@pytest_asyncio.fixture(scope="module")
async def told():
    """The trace of an answer, that of one whose caller went away, all spans and what reached the model."""
    collector, server = Collector(), grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    whole, cut = uuid4().hex, uuid4().hex
    async with openai_server.serving() as model:
        model.script = lambda _: " ".join(["mot"] * 40) + " [1]."
        provider = {"name": "fake", "base_url": model.url, "model": f"m:gap={PAUSE_SECONDS}", "api_key": "x"}
        with passable_folder() as folder:
            more = {"BACMR_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "BACMR_MODEL_PROVIDERS": json.dumps([provider])}
            running = await asyncio.to_thread(start, folder, **more)
            try:
                async with BacmrClient(running.target) as client:
                    await client.sign_in(OPERATOR, running.password)
                    await ingest(client, SAMPLES / "physique_newton.pdf")
                    asking = retrieval_pb2.AskRequest(question=QUESTION, request_id=str(uuid4()))
                    async for _ in client.retrieval.Ask(asking, metadata=traceparent(whole)):
                        pass
                    asking = retrieval_pb2.AskRequest(question=QUESTION, request_id=str(uuid4()))
                    stream = client.retrieval.Ask(asking, metadata=traceparent(cut))
                    async for event in stream:
                        if event.HasField("delta"):
                            stream.cancel()
                            break
            finally:
                await asyncio.to_thread(running.stop)
        headers = list(model.headers)
    await server.stop(None)
    spans = {name: [s for s in collector.spans if s.trace_id.hex() == name] for name in (whole, cut)}
    return whole, spans[whole], spans[cut], headers


def call_of(spans: list[Span]) -> Span:
    (found,) = [span for span in spans if span.name == "bacmr.v1.RetrievalService/Ask"]
    return found


async def test_the_servers_span_continues_the_callers_trace(told):
    _, spans, _, _ = told
    call = call_of(spans)
    assert call.parent_span_id.hex() == CALLERS_SPAN
    assert call.kind == Span.SPAN_KIND_SERVER
    assert call.status.code == Status.STATUS_CODE_UNSET
    assert "bacmr.request_id" in {attribute.key for attribute in call.attributes}


@pytest.mark.parametrize("step", ["postgresql.transaction", "postgresql.call", "fake_answer"])
async def test_each_step_outside_the_server_is_a_span_below_the_call(told, step):
    _, spans, _, _ = told
    steps = [span for span in spans if span.name == step]
    assert steps, sorted({span.name for span in spans})
    assert {span.parent_span_id for span in steps} == {call_of(spans).span_id}
    assert {span.kind for span in steps} == {Span.SPAN_KIND_CLIENT}


async def test_the_model_is_asked_within_the_trace(told):
    whole, _, _, headers = told
    assert any(header.get("traceparent", "").split("-")[1:2] == [whole] for header in headers)


async def test_a_call_that_its_caller_left_is_marked_so(told):
    _, _, spans, _ = told
    call = call_of(spans)
    assert call.status.code == Status.STATUS_CODE_ERROR
    assert "cancelled" in call.status.message


async def test_no_span_holds_what_was_asked(told):
    _, spans, cut, _ = told
    assert QUESTION not in "".join(str(span) for span in (*spans, *cut))
