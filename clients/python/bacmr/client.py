"""A typed asyncio client: keeps a session fresh, retries what is safe, resumes answers whose link dropped."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

import grpc
from grpc.aio import ClientCallDetails, Metadata

from bacmr.server_status import ServerStatus
from bacmr.v1 import (
    admin_pb2_grpc,
    auth_pb2,
    auth_pb2_grpc,
    ingestion_pb2,
    ingestion_pb2_grpc,
    quiz_pb2_grpc,
    retrieval_pb2,
    retrieval_pb2_grpc,
    wallet_pb2_grpc,
)

UPLOAD_PART_BYTES = 256 * 1024
REFRESH_BEFORE_SECONDS = 60.0
RESUME_TRIES = 8
PATIENCE_SECONDS = 20.0
"""How long a call waits for a server to be there at all, unless it has a deadline; then it fails as UNAVAILABLE."""

SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "waitForReady": True,
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.2s",
                    "maxBackoff": "3s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            },
            {"name": [{"service": "bacmr.v1.IngestionService", "method": "UploadDocument"}], "waitForReady": True},
        ]
    }
)
"""What is retried says that nothing was done. The transport retries while no server has answered: UNAVAILABLE, and the
CANCELLED with which gRPC itself refuses a call that reaches a server between its stop and its telling so. Not streams
of requests: a refusal that crosses a write makes its retries end the process, by a failed assertion."""
TRY_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""Statuses after which a call with a request_id is made again; a cancel of the caller's own is never one of them: it is
raised as asyncio.CancelledError."""
WAITS_SECONDS = (0.2, 0.5, 1.0, 2.0, 3.0)
"""Between tries of a call that a server answered with UNAVAILABLE; each is cut at random to half of it at most."""


def request_id() -> str:
    """Make an id for a mutating call. Keep it until the call's outcome is known, and retry with the same one."""
    return str(uuid.uuid4())


class BacmrClient:
    """One channel and one person's session. Use it as `async with BacmrClient("127.0.0.1:50051") as client`."""

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        access_token: str = "",
    ) -> None:
        """Open a channel. Without `credentials` the link is plaintext, which servers accept on loopback only."""
        identity = _Identity(self._token, self._present)
        options = [("grpc.service_config", SERVICE_CONFIG), ("grpc.keepalive_time_ms", 30_000)]
        self._channel = (
            grpc.aio.secure_channel(target, credentials, options, interceptors=identity.interceptors)
            if credentials
            else grpc.aio.insecure_channel(target, options, interceptors=identity.interceptors)
        )
        self._session: auth_pb2.Session | None = None
        self._fixed_token = access_token
        self._refreshing = asyncio.Lock()
        self.auth: auth_pb2_grpc.AuthServiceAsyncStub = auth_pb2_grpc.AuthServiceStub(self._channel)
        self.wallet: wallet_pb2_grpc.WalletServiceAsyncStub = wallet_pb2_grpc.WalletServiceStub(self._channel)
        self.retrieval: retrieval_pb2_grpc.RetrievalServiceAsyncStub = retrieval_pb2_grpc.RetrievalServiceStub(
            self._channel
        )
        self.quiz: quiz_pb2_grpc.QuizServiceAsyncStub = quiz_pb2_grpc.QuizServiceStub(self._channel)
        self.ingestion: ingestion_pb2_grpc.IngestionServiceAsyncStub = ingestion_pb2_grpc.IngestionServiceStub(
            self._channel
        )
        self.admin: admin_pb2_grpc.AdminServiceAsyncStub = admin_pb2_grpc.AdminServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the channel."""
        await self.close()

    async def connect(self, timeout_seconds: float) -> None:
        """Wait until a server answers; raises TimeoutError. Calls wait by themselves, for PATIENCE_SECONDS."""
        async with asyncio.timeout(timeout_seconds):
            await self._channel.channel_ready()

    async def close(self) -> None:
        """Close the channel; open calls are cancelled."""
        await self._channel.close()

    @property
    def session(self) -> auth_pb2.Session | None:
        """The session in use; store its refresh token to stay signed in."""
        return self._session

    async def sign_up(self, email: str, password: str, *, display_name: str = "") -> auth_pb2.User:
        """Make an account and use it."""
        request = auth_pb2.SignUpRequest(
            email=email, password=password, display_name=display_name, request_id=request_id()
        )
        return self._use((await self.auth.SignUp(request)).session)

    async def sign_in(self, email: str, password: str) -> auth_pb2.User:
        """Sign in with an e-mail address."""
        return self._use((await self.auth.SignIn(auth_pb2.SignInRequest(email=email, password=password))).session)

    async def restore(self, refresh_token: str) -> auth_pb2.User:
        """Go on with a stored session. A failure of the network leaves the token valid: try again later."""
        reply = await self.auth.RefreshSession(auth_pb2.RefreshSessionRequest(refresh_token=refresh_token))
        return self._use(reply.session)

    async def ask(
        self, question: str, *, request: retrieval_pb2.AskRequest | None = None
    ) -> AsyncIterator[retrieval_pb2.AskEvent]:
        """Stream an answer to its receipt. A dropped link is resumed where it broke and never charged again.

        An answer that failed before its first word is raised as the refusal that ended it, after its receipt.
        """
        message = retrieval_pb2.AskRequest()
        message.CopyFrom(request or message)
        message.question = question or message.question
        message.request_id = message.request_id or request_id()
        answer_id, seen, tries, failed = "", 0, 0, False
        while not failed:
            stream = (
                self.retrieval.ResumeAsk(retrieval_pb2.ResumeAskRequest(answer_id=answer_id, after_sequence=seen))
                if answer_id
                else self.retrieval.Ask(message)
            )
            try:
                async for event in stream:
                    if event.sequence <= seen:
                        continue
                    seen, tries = event.sequence, 0
                    answer_id = event.started.answer_id or answer_id
                    yield event
                    if event.HasField("completed"):
                        # Why an answer failed is the status that follows its receipt.
                        failed = event.completed.finish_reason == retrieval_pb2.ASK_FINISH_REASON_FAILED
                        if not failed:
                            return
            except grpc.aio.AioRpcError as error:
                if failed or error.code() not in TRY_AGAIN or tries >= RESUME_TRIES:
                    raise
            tries += 1
            await asyncio.sleep(random.uniform(0, min(5.0, 0.1 * 2**tries)))

    async def upload(
        self,
        path: Path,
        content_type: str,
        *,
        title: str = "",
        visibility: ingestion_pb2.Visibility.ValueType = ingestion_pb2.VISIBILITY_SHARED,
    ) -> ingestion_pb2.Document:
        """Upload a file in small parts; what a server that stops has not taken is sent again, to another."""
        metadata = ingestion_pb2.UploadMetadata(
            filename=path.name,
            content_type=content_type,
            title=title,
            visibility=visibility,
            request_id=request_id(),
        )

        async def parts() -> AsyncIterator[ingestion_pb2.UploadDocumentRequest]:
            yield ingestion_pb2.UploadDocumentRequest(metadata=metadata)
            with path.open("rb") as file:
                while part := file.read(UPLOAD_PART_BYTES):
                    yield ingestion_pb2.UploadDocumentRequest(chunk=part)

        for wait in (*WAITS_SECONDS, None):
            call = self.ingestion.UploadDocument(parts())
            status = ServerStatus(call)
            try:
                return (await call).document
            except grpc.aio.AioRpcError as raised:
                error = await status.error(raised)
            if wait is None or error.code() not in TRY_AGAIN:
                break
            await asyncio.sleep(_shortened(wait))
        raise error

    def _use(self, session: auth_pb2.Session) -> auth_pb2.User:
        self._session = session
        return session.user

    async def _present(self) -> bool:
        try:
            await self.connect(PATIENCE_SECONDS)
        except TimeoutError:
            return False
        return True

    async def _token(self) -> str:
        if self._session is None:
            return self._fixed_token
        if self._session.expires_at.ToSeconds() - time.time() < REFRESH_BEFORE_SECONDS:
            async with self._refreshing:
                if self._session.expires_at.ToSeconds() - time.time() < REFRESH_BEFORE_SECONDS:
                    await self.restore(self._session.refresh_token)
        return self._session.access_token


_UNSIGNED = ("/bacmr.v1.AuthService/SignUp", "/bacmr.v1.AuthService/SignIn", "/bacmr.v1.AuthService/RefreshSession")


class _Identity:
    """Adds the access token to every call but those that make one; lets none wait without end for a server."""

    def __init__(self, token: Callable[[], Any], present: Callable[[], Any]) -> None:
        self._token = token
        self._present = present

    async def details(self, details: ClientCallDetails) -> ClientCallDetails:
        metadata = Metadata(*(details.metadata or ()))
        if details.method not in _UNSIGNED and metadata.get("authorization") is None:
            token = await self._token()
            if token:
                metadata.add("authorization", f"Bearer {token}")
        waits = details.wait_for_ready
        if details.timeout is None and not await self._present():
            waits = False
        return ClientCallDetails(details.method, details.timeout, metadata, details.credentials, waits)

    @property
    def interceptors(self) -> list[Any]:
        identity = self

        class UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
            async def intercept_unary_unary(self, continuation: Any, details: ClientCallDetails, request: Any) -> Any:
                return await _patiently(continuation, await identity.details(details), request)

        class UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
            async def intercept_unary_stream(self, continuation: Any, details: ClientCallDetails, request: Any) -> Any:
                return await continuation(await identity.details(details), request)

        class StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
            async def intercept_stream_unary(self, continuation: Any, details: ClientCallDetails, request: Any) -> Any:
                return await continuation(await identity.details(details), request)

        return [UnaryUnary(), UnaryStream(), StreamUnary()]


async def _patiently(continuation: Any, details: ClientCallDetails, request: Any) -> Any:
    """Make a call, again while a server says UNAVAILABLE, within the deadline of the first try."""
    ends_at = None if details.timeout is None else time.monotonic() + details.timeout
    for wait in WAITS_SECONDS:
        call = await continuation(details, request)
        pause = _shortened(wait)
        left = None if ends_at is None else ends_at - time.monotonic() - pause
        if await call.code() is not grpc.StatusCode.UNAVAILABLE or (left is not None and left <= 0):
            return call
        await asyncio.sleep(pause)
        details = ClientCallDetails(details.method, left, details.metadata, details.credentials, details.wait_for_ready)
    return await continuation(details, request)


def _shortened(wait_seconds: float) -> float:
    return wait_seconds * random.uniform(0.5, 1.0)
