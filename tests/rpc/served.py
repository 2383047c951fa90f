"""The real edge around servicers that a test hands in, and what refused a call: for tests over a real channel."""

import base64
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import grpc
import httpx
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from bacmr.server_status import ServerStatus
from bacmr.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    auth_pb2,
    auth_pb2_grpc,
    ingestion_pb2,
    ingestion_pb2_grpc,
    quiz_pb2,
    quiz_pb2_grpc,
    retrieval_pb2,
    retrieval_pb2_grpc,
    wallet_pb2,
    wallet_pb2_grpc,
)
from server.caller import Role, Tier
from server.edge.health import Health
from server.edge.server import EdgeServer, Service
from server.refusal import NotSignedIn

_CONTRACT = (
    ("AuthService", auth_pb2, auth_pb2_grpc),
    ("WalletService", wallet_pb2, wallet_pb2_grpc),
    ("RetrievalService", retrieval_pb2, retrieval_pb2_grpc),
    ("QuizService", quiz_pb2, quiz_pb2_grpc),
    ("IngestionService", ingestion_pb2, ingestion_pb2_grpc),
    ("AdminService", admin_pb2, admin_pb2_grpc),
)


@dataclass(frozen=True, slots=True)
class Who:
    """An identity as the token verifier would return it, with the token that names it."""

    token: str
    user_id: UUID
    role: Role = Role.STUDENT
    tier: Tier = Tier.FREE
    session_id: UUID | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)


@dataclass(frozen=True, slots=True)
class People:
    """The people that the test's verifier knows."""

    known: dict[str, Who] = field(default_factory=dict)

    def add(self, role: Role = Role.STUDENT, tier: Tier = Tier.FREE) -> Who:
        who = Who(token=f"token-{uuid4()}", user_id=uuid4(), role=role, tier=tier)
        self.known[who.token] = who
        return who

    async def verify(self, token: str) -> Who:
        if token not in self.known:
            raise NotSignedIn
        return self.known[token]


@dataclass(frozen=True, slots=True)
class Refused:
    """How a call was refused, with its details unpacked."""

    code: grpc.StatusCode
    sentence: str
    details: Mapping[str, Message]
    trailing: Mapping[str, Any]
    initial: Mapping[str, Any]

    @property
    def reason(self) -> str:
        return self.info.reason

    @property
    def info(self) -> error_details_pb2.ErrorInfo:
        found = self.details["ErrorInfo"]
        assert isinstance(found, error_details_pb2.ErrorInfo)
        return found


@dataclass(frozen=True, slots=True)
class Edge:
    """A running server with a channel to it."""

    server: EdgeServer
    channel: grpc.aio.Channel
    people: People
    health: Health

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"


def services(**servicers: object) -> list[Service]:
    """All six services: those named are served by the given servicer, the rest by the generated, empty one."""
    found = []
    for name, messages, stubs in _CONTRACT:
        servicer = servicers.get(name) or getattr(stubs, f"{name}Servicer")()
        add = getattr(stubs, f"add_{name}Servicer_to_server")
        found.append(Service(add, servicer, messages.DESCRIPTOR.services_by_name[name]))
    return found


async def error_of(call: Any) -> grpc.aio.AioRpcError | None:
    """Await a call, or read a stream to its end; how its server ended it, None when with OK."""
    status = ServerStatus(call)
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as raised:
        return await status.error(raised)
    return None


async def refusal(call: Any) -> Refused:
    """Return how a call was refused; fails when it was not."""
    error = await error_of(call)
    assert error is not None, "the call was answered"
    return refused(error)


def refused(error: grpc.RpcError) -> Refused:
    """Unpack how a call was refused."""
    trailing = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailing.get("grpc-status-details-bin", b""))
    details = {}
    for packed in status.details:
        name = packed.TypeName().rpartition(".")[2]
        assert name not in details, f"{name} twice"
        detail = getattr(error_details_pb2, name)()
        packed.Unpack(detail)
        details[name] = detail
    return Refused(error.code(), error.details() or "", details, trailing, dict(error.initial_metadata()))


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """A gRPC-Web response, taken apart."""

    status: int
    headers: httpx.Headers
    messages: list[bytes]
    trailers: Mapping[str, str]

    @property
    def code(self) -> int:
        return int(self.trailers["grpc-status"])

    @property
    def reason(self) -> str:
        packed = self.trailers["grpc-status-details-bin"]
        status = status_pb2.Status.FromString(base64.b64decode(packed + "=" * (-len(packed) % 4)))
        info = error_details_pb2.ErrorInfo()
        assert any(detail.Unpack(info) for detail in status.details)
        return info.reason


async def web_call(
    base: str, path: str, message: bytes, headers: Sequence[tuple[str, str]] = (), *, text: bool = False
) -> WebAnswer:
    """Make a gRPC-Web call over HTTP/1.1 and read it to its end."""
    kind = "application/grpc-web-text" if text else "application/grpc-web+proto"
    body = struct.pack(">BI", 0, len(message)) + message
    async with httpx.AsyncClient(base_url=base) as client:
        response = await client.post(
            path,
            content=base64.b64encode(body) if text else body,
            headers=[("content-type", kind), ("accept", kind), *headers],
        )
    frames = b"".join(unpadded(response.content)) if text else response.content
    messages, trailers = [], {}
    while frames:
        flag, size = struct.unpack_from(">BI", frames)
        payload, frames = frames[5 : 5 + size], frames[5 + size :]
        if flag & 0x80:
            lines = (line.partition(":") for line in payload.decode().split("\r\n") if line)
            trailers = {name.lower(): value.strip() for name, _, value in lines}
        else:
            messages.append(payload)
    # A response without a body carries its status in its headers.
    found = trailers or {name: value for name, value in response.headers.items() if name.startswith("grpc-")}
    return WebAnswer(response.status_code, response.headers, messages, found)


def unpadded(encoded: bytes) -> Iterator[bytes]:
    """Decode base64 that was encoded in pieces, each padded by itself."""
    for index in range(0, len(encoded), 4):
        yield base64.b64decode(encoded[index : index + 4])
