"""What the edge does around a call of any shape, over a real channel."""

import asyncio
import logging
from collections import Counter
from uuid import UUID, uuid4

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bacmr.v1 import ingestion_pb2, ingestion_pb2_grpc, retrieval_pb2, retrieval_pb2_grpc, wallet_pb2, wallet_pb2_grpc
from server import caller as callers
from server.edge.policy import Policy
from server.refusal import InsufficientBalance, NotSignedIn
from server.telemetry import traces
from server.telemetry.metrics import export
from tests.rpc.served import Edge, Who, refusal

ASK = "/bacmr.v1.RetrievalService/Ask"
BALANCE = wallet_pb2.GetBalanceRequest()


class Wallet(wallet_pb2_grpc.WalletServiceServicer):
    """Answers by purpose, so that one servicer can go every way."""

    def __init__(self) -> None:
        self.seen = []

    async def GetBalance(self, request, context):
        self.seen.append(callers.current())
        return wallet_pb2.GetBalanceResponse(available_tokens=5)

    async def GetReservation(self, request, context):
        raise RuntimeError("secret detail")

    async def RedeemVoucher(self, request, context):
        raise InsufficientBalance(needed=40, available=3)


class Retrieval(retrieval_pb2_grpc.RetrievalServiceServicer):
    """Streams as long as a test wants."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.how = ""

    async def Ask(self, request, context):
        try:
            for number in range(1, 1001):
                yield retrieval_pb2.AskEvent(sequence=number, heartbeat=retrieval_pb2.AskHeartbeat())
                if request.question == "broken" and number == 2:
                    raise RuntimeError("secret detail")
                if request.question == "refused" and number == 2:
                    raise InsufficientBalance(needed=1, available=0)
                if request.question == "three" and number == 3:
                    return
                if request.question == "slow":
                    await asyncio.sleep(0.02)
        except BaseException as error:
            self.how = type(error).__name__
            raise
        finally:
            self.ended.set()


class Ingestion(ingestion_pb2_grpc.IngestionServiceServicer):
    """Counts what it is sent."""

    async def UploadDocument(self, messages, context):
        size = 0
        async for message in messages:
            size += len(message.chunk)
        return ingestion_pb2.UploadDocumentResponse(document=ingestion_pb2.Document(title=str(size)))


@pytest.fixture
async def edge(serve) -> Edge:
    return await serve(WalletService=Wallet(), RetrievalService=Retrieval(), IngestionService=Ingestion())


def counted(path: str) -> Counter[str]:
    """How many calls of a method ended, by code."""
    series = export.snapshot()["metrics"]["grpc_calls_total"]["series"]
    return Counter({s["labels"]["code"]: int(s["value"]) for s in series if s["labels"]["method"] == path})


def ask(question: str) -> retrieval_pb2.AskRequest:
    return retrieval_pb2.AskRequest(question=question, request_id=str(uuid4()))


async def test_a_unary_call_is_answered(edge):
    wallet = wallet_pb2_grpc.WalletServiceStub(edge.channel)
    assert (await wallet.GetBalance(BALANCE, metadata=edge.people.add().metadata)).available_tokens == 5


async def test_a_server_stream_is_answered_in_order(edge):
    retrieval = retrieval_pb2_grpc.RetrievalServiceStub(edge.channel)
    stream = retrieval.Ask(ask("three"), metadata=edge.people.add().metadata)
    assert [event.sequence async for event in stream] == [1, 2, 3]


async def test_a_client_stream_is_read_as_messages(edge):
    who = edge.people.add(callers.Role.TEACHER)

    async def parts():
        yield ingestion_pb2.UploadDocumentRequest(
            metadata=ingestion_pb2.UploadMetadata(
                filename="a.pdf", content_type="application/pdf", sha256="0" * 64, request_id=str(uuid4())
            )
        )
        yield ingestion_pb2.UploadDocumentRequest(chunk=b"1234")
        yield ingestion_pb2.UploadDocumentRequest(chunk=b"567")

    stub = ingestion_pb2_grpc.IngestionServiceStub(edge.channel)
    assert (await stub.UploadDocument(parts(), metadata=who.metadata)).document.title == "7"


async def test_every_message_of_a_client_stream_is_validated(edge):
    who = edge.people.add(callers.Role.TEACHER)
    stub = ingestion_pb2_grpc.IngestionServiceStub(edge.channel)
    no = await refusal(stub.UploadDocument([ingestion_pb2.UploadDocumentRequest()], metadata=who.metadata))
    assert (no.code, no.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")


async def test_a_bidirectional_stream_of_the_transport_is_served(edge):
    stub = reflection_pb2_grpc.ServerReflectionStub(edge.channel)
    answers = [a async for a in stub.ServerReflectionInfo([reflection_pb2.ServerReflectionRequest(list_services="")])]
    assert "bacmr.v1.WalletService" in {found.name for found in answers[0].list_services_response.service}


async def test_a_request_id_that_is_a_uuid_is_kept_in_both_metadata(edge):
    mine = str(uuid4())
    call = wallet_pb2_grpc.WalletServiceStub(edge.channel).GetBalance(
        BALANCE, metadata=(*edge.people.add().metadata, ("x-request-id", mine))
    )
    assert dict(await call.initial_metadata())["x-request-id"] == mine
    assert dict(await call.trailing_metadata())["x-request-id"] == mine


@pytest.mark.parametrize("given", ["", "op-1", "g" * 36, "6c1b4f0e7f0e4a079f5c0d6f5a8d8c11", "x" * 5000])
async def test_any_other_request_id_is_replaced(edge, given):
    metadata = (*edge.people.add().metadata, ("x-request-id", given))
    call = wallet_pb2_grpc.WalletServiceStub(edge.channel).GetBalance(BALANCE, metadata=metadata)
    made = dict(await call.trailing_metadata())["x-request-id"]
    assert made != given
    assert UUID(made).version == 4


async def test_a_stream_sends_its_request_id_before_its_first_message(edge):
    mine = str(uuid4())
    stream = retrieval_pb2_grpc.RetrievalServiceStub(edge.channel).Ask(
        ask("three"), metadata=(*edge.people.add().metadata, ("x-request-id", mine))
    )
    assert dict(await stream.initial_metadata())["x-request-id"] == mine
    assert [event.sequence async for event in stream] == [1, 2, 3]
    assert dict(await stream.trailing_metadata())["x-request-id"] == mine


async def test_the_caller_of_a_call_is_whom_the_token_names(serve, people):
    wallet, who = Wallet(), people.add(callers.Role.TEACHER, callers.Tier.PREMIUM)
    edge = await serve(WalletService=wallet)
    mine = uuid4()
    await wallet_pb2_grpc.WalletServiceStub(edge.channel).GetBalance(
        BALANCE, metadata=(*who.metadata, ("x-request-id", str(mine))), timeout=5
    )
    (seen,) = wallet.seen
    assert (seen.user_id, seen.role, seen.tier) == (who.user_id, callers.Role.TEACHER, callers.Tier.PREMIUM)
    assert (seen.request_id, seen.address) == (mine, "127.0.0.1")
    left = seen.deadline_at - asyncio.get_running_loop().time()
    assert 0 < left < 5.1  # gRPC rounds what is left on its way


async def test_calls_do_not_inherit_the_rights_of_who_started_the_server(serve):
    roles = []

    async def verify(token):
        roles.append(callers.current().role)
        raise NotSignedIn

    with callers.acting_as(callers.system()):
        edge = await serve(WalletService=Wallet(), verify=verify)
    await refusal(
        wallet_pb2_grpc.WalletServiceStub(edge.channel).GetBalance(BALANCE, metadata=Who("t", uuid4()).metadata)
    )
    assert roles == [callers.Role.ANYONE]


async def test_a_refusal_carries_its_reason_metadata_and_request_id(edge):
    mine = str(uuid4())
    request = wallet_pb2.RedeemVoucherRequest(code="ABCD-EFGH", request_id=str(uuid4()))
    no = await refusal(
        wallet_pb2_grpc.WalletServiceStub(edge.channel).RedeemVoucher(
            request, metadata=(*edge.people.add().metadata, ("x-request-id", mine))
        )
    )
    assert (no.code, no.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INSUFFICIENT_BALANCE")
    assert no.info.domain == "bacmr"
    assert dict(no.info.metadata) == {"needed": "40", "available": "3"}
    assert no.details["RequestInfo"].request_id == no.trailing["x-request-id"] == no.initial["x-request-id"] == mine


async def test_a_fault_of_ours_says_nothing_but_the_request_id(edge, caplog):
    request = wallet_pb2.GetReservationRequest(reservation_id=str(uuid4()))
    call = wallet_pb2_grpc.WalletServiceStub(edge.channel).GetReservation(request, metadata=edge.people.add().metadata)
    no = await refusal(call)
    assert (no.code, no.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert set(no.details) == {"ErrorInfo", "RequestInfo"}
    assert "secret" not in repr(no)
    assert "RuntimeError" not in repr(no)


@pytest.mark.parametrize(
    ("question", "code", "reason"),
    [
        ("broken", grpc.StatusCode.INTERNAL, "INTERNAL"),
        ("refused", grpc.StatusCode.FAILED_PRECONDITION, "INSUFFICIENT_BALANCE"),
    ],
)
async def test_a_stream_that_fails_midway_ends_with_the_same_kind_of_status(edge, question, code, reason):
    stream = retrieval_pb2_grpc.RetrievalServiceStub(edge.channel).Ask(
        ask(question), metadata=edge.people.add().metadata
    )
    no = await refusal(stream)
    assert (no.code, no.reason) == (code, reason)


async def test_a_method_that_no_servicer_overrides_is_not_served(edge):
    no = await refusal(
        wallet_pb2_grpc.WalletServiceStub(edge.channel).ListReservations(
            wallet_pb2.ListReservationsRequest(), metadata=edge.people.add().metadata
        )
    )
    assert (no.code, no.reason) == (grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_SERVED")


@pytest.mark.parametrize("path", ["/bacmr.v1.WalletService/Steal", "/x", "/a.b.C/D", "/bacmr.v1.AdminService/"])
async def test_a_method_that_nobody_knows_is_refused_with_details(edge, path):
    no = await refusal(edge.channel.unary_unary(path)(b"anything"))
    assert (no.code, no.reason) == (grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_SERVED")
    assert no.details["RequestInfo"].request_id == no.trailing["x-request-id"]


async def test_a_violation_names_the_field_and_the_rule(edge):
    request = wallet_pb2.GetBalanceRequest(user_id="not-a-uuid")
    no = await refusal(
        wallet_pb2_grpc.WalletServiceStub(edge.channel).GetBalance(request, metadata=edge.people.add().metadata)
    )
    assert (no.code, no.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    (violation,) = no.details["BadRequest"].field_violations
    assert (violation.field, violation.reason) == ("user_id", "STRING_UUID")
    assert f"user_id: {violation.description}" in no.sentence


async def test_a_deadline_of_the_caller_ends_the_handler(serve, people):
    retrieval = Retrieval()
    edge = await serve(RetrievalService=retrieval)
    stream = retrieval_pb2_grpc.RetrievalServiceStub(edge.channel).Ask(
        ask("slow"), metadata=people.add().metadata, timeout=0.2
    )
    no = await refusal(stream)
    assert no.code is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(retrieval.ended.wait(), 5)
    assert retrieval.how in {"CancelledError", "GeneratorExit"}


async def test_the_servers_longest_deadline_is_enforced_with_details(serve_handler, people):
    ended = asyncio.Event()

    async def sleeps(request, context):
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    channel = await serve_handler(sleeps, Policy(default_deadline_seconds=0.15, max_deadline_seconds=0.3))
    call = channel.unary_unary("/test/Sleep")
    for asked in (None, 30.0):
        ended.clear()
        no = await refusal(call(b"", metadata=people.add().metadata, timeout=asked))
        assert (no.code, no.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
        assert ended.is_set()


async def test_a_cancel_of_the_caller_reaches_the_handler(serve, people):
    retrieval = Retrieval()
    edge = await serve(RetrievalService=retrieval)
    stream = retrieval_pb2_grpc.RetrievalServiceStub(edge.channel).Ask(ask("slow"), metadata=people.add().metadata)
    await stream.read()
    stream.cancel()
    await asyncio.wait_for(retrieval.ended.wait(), 5)
    assert retrieval.how in {"CancelledError", "GeneratorExit"}


async def test_a_caller_that_vanishes_while_the_server_writes_is_no_fault_of_ours(serve, people, caplog):
    retrieval = Retrieval()
    edge = await serve(RetrievalService=retrieval)
    channel = grpc.aio.insecure_channel(edge.address)
    stream = retrieval_pb2_grpc.RetrievalServiceStub(channel).Ask(ask("endless"), metadata=people.add().metadata)
    await stream.read()
    before = counted(ASK)
    with caplog.at_level(logging.ERROR):
        await channel.close()
        await asyncio.wait_for(retrieval.ended.wait(), 5)
        await edge.server.drain(1.0)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert counted(ASK) - before == Counter(CANCELLED=1)


async def test_a_broken_write_ends_the_call_as_cancelled(serve_handler, people):
    async def breaks(request, context):
        raise grpc.aio.InternalError("the write failed")

    channel = await serve_handler(breaks, Policy())
    before = counted("/test/Sleep")
    no = await refusal(channel.unary_unary("/test/Sleep")(b"", metadata=people.add().metadata, timeout=0.3))
    assert no.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert counted("/test/Sleep") - before == Counter(CANCELLED=1)


async def test_open_streams_are_bounded(serve, people):
    retrieval = Retrieval()
    edge = await serve(RetrievalService=retrieval, max_streams=2)
    stub = retrieval_pb2_grpc.RetrievalServiceStub(edge.channel)
    open_streams = [stub.Ask(ask("slow"), metadata=people.add().metadata) for _ in range(2)]
    for stream in open_streams:
        await stream.read()
    no = await refusal(stub.Ask(ask("slow"), metadata=people.add().metadata))
    assert (no.code, no.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    open_streams[0].cancel()
    await asyncio.wait_for(retrieval.ended.wait(), 5)
    again = stub.Ask(ask("three"), metadata=people.add().metadata)
    assert [event.sequence async for event in again] == [1, 2, 3]


@pytest.mark.parametrize("size", [4097, 16_000])
async def test_a_message_above_the_limit_is_refused_with_details_and_unread(serve, people, size):
    edge = await serve(WalletService=Wallet(), message_bytes=4096)
    call = edge.channel.unary_unary("/bacmr.v1.WalletService/GetBalance")
    no = await refusal(call(b"\xff" * size, metadata=people.add().metadata))
    assert (no.code, no.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    assert dict(no.info.metadata) == {"scope": "message", "limit_bytes": "4096"}
    assert no.details["RequestInfo"].request_id == no.trailing["x-request-id"]
    small = wallet_pb2.GetBalanceRequest(user_id=str(uuid4())).SerializeToString()
    await call(small, metadata=people.add().metadata)


async def test_a_message_far_above_the_limit_never_gets_into_memory(serve, people):
    edge = await serve(WalletService=Wallet(), message_bytes=4096)
    call = edge.channel.unary_unary("/bacmr.v1.WalletService/GetBalance")
    no = await refusal(call(b"\xff" * 4096 * 5, metadata=people.add().metadata))
    # Without details: the transport cut it off, nobody here has seen it.
    assert (no.code, dict(no.details)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, {})


async def test_every_message_of_a_client_stream_is_held_to_the_limit(serve, people):
    edge = await serve(IngestionService=Ingestion(), message_bytes=4096)
    stub = ingestion_pb2_grpc.IngestionServiceStub(edge.channel)
    parts = [ingestion_pb2.UploadDocumentRequest(chunk=b"x" * size) for size in (4000, 5000)]
    no = await refusal(stub.UploadDocument(parts, metadata=people.add(callers.Role.TEACHER).metadata))
    assert (no.code, no.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")


async def test_every_call_is_counted_by_method_and_code(edge):
    path, before = "/bacmr.v1.WalletService/GetBalance", counted("/bacmr.v1.WalletService/GetBalance")
    stub = wallet_pb2_grpc.WalletServiceStub(edge.channel)
    await stub.GetBalance(BALANCE, metadata=edge.people.add().metadata)
    await refusal(stub.GetBalance(BALANCE))
    await edge.server.drain(1.0)
    assert counted(path) - before == Counter(OK=1, UNAUTHENTICATED=1)


async def test_a_call_is_a_span_of_its_callers_trace_with_the_right_status(edge):
    exporter = InMemorySpanExporter()
    traces.configure("", exporter=exporter)
    stub = wallet_pb2_grpc.WalletServiceStub(edge.channel)
    metadata = (*edge.people.add().metadata, ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
    await stub.GetBalance(BALANCE, metadata=metadata)
    await refusal(stub.GetReservation(wallet_pb2.GetReservationRequest(reservation_id=str(uuid4())), metadata=metadata))
    await refusal(stub.GetBalance(BALANCE, metadata=metadata[1:]))
    await edge.server.drain(1.0)
    traces.shutdown()
    spans = exporter.get_finished_spans()
    assert {span.context.trace_id for span in spans} == {0x0AF7651916CD43DD8448EB211C80319C}
    assert [(span.attributes["rpc.grpc.status_code"], span.status.status_code.name) for span in spans] == [
        ("OK", "UNSET"),
        ("INTERNAL", "ERROR"),
        ("UNAUTHENTICATED", "UNSET"),
    ]
