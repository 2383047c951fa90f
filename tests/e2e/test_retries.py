"""A lost reply: the same request again gets the first result, and its id cannot be used for anything else."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import httpx
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from bacmr.client import BacmrClient
from bacmr.refusals import refusal
from bacmr.v1 import auth_pb2, ingestion_pb2, quiz_pb2, retrieval_pb2
from tests.e2e.conftest import OPERATOR, ROOT, Server

LESSON = ROOT / "samples" / "physique_newton.md"
PASSWORD = "a long enough password"
QUESTION = "Quel est le principe d'inertie énoncé par Newton ?"


@dataclass(frozen=True)
class World:
    """A student on a server whose library holds a lesson, and the operator who put it there."""

    server: Server
    student: BacmrClient
    operator: BacmrClient
    email: str

    async def answer(self) -> retrieval_pb2.AskEvent:
        request = retrieval_pb2.AskRequest(request_id=str(uuid4()))
        return await anext(self.student.ask(QUESTION, request=request))

    async def quiz_id(self) -> str:
        request = quiz_pb2.GenerateQuizRequest(topic="les lois de Newton", question_count=1, request_id=str(uuid4()))
        return [event async for event in self.operator.quiz.GenerateQuiz(request)][-1].completed.quiz.id

    async def session_id(self) -> str:
        async with BacmrClient(self.server.target) as phone:
            await phone.sign_in(self.email, PASSWORD)
            devices = (await phone.auth.ListSessions(auth_pb2.ListSessionsRequest())).devices
            return next(device.session_id for device in devices if device.current)

    async def upload_id(self, content: bytes) -> str:
        asked = ingestion_pb2.CreateUploadRequest(
            filename="lesson.txt",
            content_type="text/plain",
            size_bytes=len(content),
            sha256=sha256(content).hexdigest(),
            request_id=str(uuid4()),
        )
        ticket = (await self.operator.ingestion.CreateUpload(asked)).ticket
        async with httpx.AsyncClient() as http:
            put = await http.request(ticket.method, ticket.url, content=content, headers=dict(ticket.headers))
        assert put.status_code in (200, 201, 204)
        return ticket.upload_id


@pytest_asyncio.fixture(scope="module")
async def operator(server: Server) -> AsyncIterator[BacmrClient]:
    async with BacmrClient(server.target) as client:
        await client.sign_in(OPERATOR, server.password)
        document = await client.upload(Path(LESSON), "text/markdown")
        asked = ingestion_pb2.CreateIngestionJobRequest(
            document_id=document.id, namespace="grade-12", request_id=str(uuid4())
        )
        job = (await client.ingestion.CreateIngestionJob(asked)).job
        watched = client.ingestion.WatchIngestionJob(ingestion_pb2.WatchIngestionJobRequest(job_id=job.id))
        assert [event async for event in watched][-1].job.state == ingestion_pb2.JOB_STATE_READY
        yield client


@pytest_asyncio.fixture
async def world(server: Server, operator: BacmrClient) -> AsyncIterator[World]:
    email = f"{uuid4()}@example.org"
    async with BacmrClient(server.target) as student:
        await student.sign_up(email, PASSWORD)
        yield World(server, student, operator, email)


@dataclass(frozen=True)
class Call:
    """An RPC, what to send, and something else to send under the same id."""

    send: Callable[[Any], Awaitable[Message]]
    request: Any
    other: Any


async def revoke_session(world: World) -> Call:
    ask = auth_pb2.RevokeSessionRequest
    first, other = await world.session_id(), await world.session_id()
    return Call(world.student.auth.RevokeSession, ask(session_id=first), ask(session_id=other))


async def update_me(world: World) -> Call:
    def ask(name: str) -> auth_pb2.UpdateMeRequest:
        return auth_pb2.UpdateMeRequest(
            user=auth_pb2.User(display_name=name), update_mask=FieldMask(paths=["display_name"])
        )

    return Call(world.student.auth.UpdateMe, ask("Mariem"), ask("Sidi"))


async def change_password(world: World) -> Call:
    def ask(new: str) -> auth_pb2.ChangePasswordRequest:
        return auth_pb2.ChangePasswordRequest(current_password=PASSWORD, new_password=new)

    return Call(world.student.auth.ChangePassword, ask("a new long password"), ask("yet another password"))


async def cancel_ask(world: World) -> Call:
    def ask(event: retrieval_pb2.AskEvent) -> retrieval_pb2.CancelAskRequest:
        return retrieval_pb2.CancelAskRequest(answer_id=event.started.answer_id)

    return Call(world.student.retrieval.CancelAsk, ask(await world.answer()), ask(await world.answer()))


async def delete_conversation(world: World) -> Call:
    def ask(event: retrieval_pb2.AskEvent) -> retrieval_pb2.DeleteConversationRequest:
        return retrieval_pb2.DeleteConversationRequest(conversation_id=event.started.conversation_id)

    return Call(world.student.retrieval.DeleteConversation, ask(await world.answer()), ask(await world.answer()))


async def rate_answer(world: World) -> Call:
    answer_id = (await world.answer()).started.answer_id
    ask = retrieval_pb2.RateAnswerRequest
    return Call(
        world.student.retrieval.RateAnswer,
        ask(answer_id=answer_id, rating=retrieval_pb2.RATING_HELPFUL, comment="clair"),
        ask(answer_id=answer_id, rating=retrieval_pb2.RATING_HELPFUL, comment="واضح"),
    )


async def delete_quiz(world: World) -> Call:
    ask = quiz_pb2.DeleteQuizRequest
    first, other = await world.quiz_id(), await world.quiz_id()
    return Call(world.operator.quiz.DeleteQuiz, ask(quiz_id=first), ask(quiz_id=other))


async def publish_quiz(world: World) -> Call:
    quiz_id = await world.quiz_id()
    ask = quiz_pb2.PublishQuizRequest
    return Call(
        world.operator.quiz.PublishQuiz, ask(quiz_id=quiz_id, published=True), ask(quiz_id=quiz_id, published=False)
    )


async def complete_upload(world: World) -> Call:
    ask = ingestion_pb2.CompleteUploadRequest
    first, other = await world.upload_id(b"La force est une action."), await world.upload_id(b"Le champ est uniforme.")
    return Call(world.operator.ingestion.CompleteUpload, ask(upload_id=first), ask(upload_id=other))


CALLS = (
    revoke_session,
    update_me,
    change_password,
    cancel_ask,
    delete_conversation,
    rate_answer,
    delete_quiz,
    publish_quiz,
    complete_upload,
)


@pytest.mark.parametrize("prepare", CALLS, ids=lambda prepare: prepare.__name__)
async def test_a_retry_gets_the_first_result_and_its_id_is_good_for_nothing_else(
    world: World, prepare: Callable[[World], Awaitable[Call]]
) -> None:
    call, request_id = await prepare(world), str(uuid4())
    call.request.request_id = call.other.request_id = request_id
    first = await call.send(call.request)
    again = await call.send(call.request)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.send(call.other)
    assert again == first
    assert refusal(refused.value).reason == "REQUEST_ID_REUSED"


async def test_an_old_verdict_that_is_sent_again_does_not_undo_a_newer_one(world: World) -> None:
    call = await rate_answer(world)
    call.request.request_id = str(uuid4())
    call.other.request_id = str(uuid4())
    call.other.rating = retrieval_pb2.RATING_UNHELPFUL
    await call.send(call.request)
    await call.send(call.other)
    await call.send(call.request)
    read = retrieval_pb2.GetAnswerRequest(answer_id=call.request.answer_id)
    assert (await world.student.retrieval.GetAnswer(read)).answer.rating == retrieval_pb2.RATING_UNHELPFUL


async def test_a_changed_password_is_kept_when_the_change_is_sent_again(world: World) -> None:
    call = await change_password(world)
    call.request.request_id = str(uuid4())
    await call.send(call.request)
    await call.send(call.request)
    async with BacmrClient(world.server.target) as again:
        await again.sign_in(world.email, "a new long password")


@pytest.mark.parametrize("leave", ["SignOut", "DeleteMe"])
async def test_who_has_left_is_told_so_when_leaving_again(world: World, leave: str) -> None:
    asked = {
        "SignOut": auth_pb2.SignOutRequest(request_id=str(uuid4())),
        "DeleteMe": auth_pb2.DeleteMeRequest(password=PASSWORD, request_id=str(uuid4())),
    }[leave]
    call = getattr(world.student.auth, leave)
    await call(asked)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(asked)
    assert refusal(refused.value).reason in ("NOT_SIGNED_IN", "REFRESH_REFUSED")
