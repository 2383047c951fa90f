"""One id finds one request everywhere; and keys are rotated beside the server that runs."""

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import httpx
import jwt
import psycopg
import pytest
import pytest_asyncio
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from psycopg import sql

from bacmr.client import BacmrClient, request_id
from bacmr.v1 import auth_pb2, auth_pb2_grpc, ingestion_pb2, retrieval_pb2
from server.auth import tokens
from server.auth.keyring import Keyring
from server.auth.tokens import SIGNING_ALGORITHM, Rule
from server.database.embedded import EmbeddedPostgres
from tests.e2e.conftest import OPERATOR, Server, command, passable_folder, settings, start
from tests.openai_server import Wire, serving
from tests.rpc.served import error_of, services, web_call

PASSWORD = "a long enough password"
SECRET = "hunter2-very-secret-passphrase"
LASTING = {
    "ExportData",
    "ImportData",
    "RunRecoveryDrill",
    "StartReindex",
    "ActivateIndex",
    "RollbackIndex",
    "DropIndex",
    "SignOut",
}
"""What would work on for long, or change what the other tests stand on."""
LESSON = (
    "Le principe d'inertie : un corps isolé garde une vitesse constante. La force résultante est alors nulle.\n" * 8
)


@dataclass(frozen=True, slots=True)
class Site:
    """A server with a lesson, whose answers come from a model on loopback."""

    server: Server
    wire: Wire


@pytest_asyncio.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with serving() as wire:
        with passable_folder() as folder:
            provider = {"name": "loopback", "base_url": wire.url, "model": "m", "api_key": "k"}
            server = await asyncio.to_thread(
                start,
                folder,
                BACMR_MODEL_PROVIDERS=json.dumps([provider]),
                BACMR_TRUSTED_PROXIES="192.0.2.0/24, 2001:db8::/32",
                BACMR_METRICS_TOKEN="figures",
                BACMR_LIMITS_MESSAGE_BYTES="1000000",
            )
            try:
                lesson = tmp_path_factory.mktemp("lessons") / "inertie.txt"
                lesson.write_text(LESSON)
                async with BacmrClient(server.target) as operator:
                    await operator.sign_in(OPERATOR, server.password)
                    await ingested(operator, lesson)
                yield Site(server, wire)
            finally:
                await asyncio.to_thread(server.stop)


async def ingested(operator: BacmrClient, lesson: Path) -> None:
    document = await operator.upload(lesson, "text/plain")
    asked = ingestion_pb2.CreateIngestionJobRequest(
        document_id=document.id, namespace="grade-12", subject="physics", grade="12", request_id=request_id()
    )
    job = (await operator.ingestion.CreateIngestionJob(asked)).job
    async for event in operator.ingestion.WatchIngestionJob(ingestion_pb2.WatchIngestionJobRequest(job_id=job.id)):
        job = event.job
    assert job.state == ingestion_pb2.JOB_STATE_READY


async def signed_up(student: BacmrClient) -> auth_pb2.Session:
    await student.sign_up(f"{uuid4()}@example.org", PASSWORD)
    assert student.session is not None
    return student.session


def rows_with(folder: Path, found: UUID) -> dict[str, int]:
    """How many rows of each table carry an id in a column of its type."""
    postgres = EmbeddedPostgres(folder / "data" / "postgres")
    assert postgres.attach()
    counts = {}
    with psycopg.connect(postgres.connection.owner_url()) as connection:
        columns = connection.execute(
            "SELECT c.table_name, c.column_name FROM information_schema.columns c JOIN information_schema.tables t"
            " USING (table_schema, table_name)"
            " WHERE c.table_schema = 'bacmr' AND c.data_type = 'uuid' AND t.table_type = 'BASE TABLE'"
        ).fetchall()
        for table, column in columns:
            query = sql.SQL("SELECT count(*) FROM bacmr.{} WHERE {} = %s").format(
                sql.Identifier(table), sql.Identifier(column)
            )
            row = connection.execute(query, [found]).fetchone()
            if row and row[0]:
                counts[table] = counts.get(table, 0) + row[0]
    return counts


def lines_with(server: Server, found: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.output.splitlines() if found in line]


async def test_one_id_finds_the_logs_the_rows_the_model_calls_and_the_metadata_of_a_question(site: Site) -> None:
    mine = uuid4()
    async with BacmrClient(site.server.target) as student:
        session = await signed_up(student)
        async with grpc.aio.insecure_channel(site.server.target) as channel:
            ask = channel.unary_stream(
                "/bacmr.v1.RetrievalService/Ask",
                request_serializer=retrieval_pb2.AskRequest.SerializeToString,
                response_deserializer=retrieval_pb2.AskEvent.FromString,
            )
            call = ask(
                retrieval_pb2.AskRequest(question="Qu'est-ce que le principe d'inertie ?", request_id=request_id()),
                metadata=[("authorization", f"Bearer {session.access_token}"), ("x-request-id", str(mine))],
            )
            events = [event async for event in call]
            assert dict(await call.initial_metadata())["x-request-id"] == str(mine)
            assert dict(await call.trailing_metadata())["x-request-id"] == str(mine)
    assert events[-1].WhichOneof("event") == "completed"
    asked_models = [headers for headers in site.wire.headers if headers.get("x-request-id") == str(mine)]
    assert asked_models
    rows = rows_with(site.server.folder, mine)
    assert {"reservation", "ledger_entry", "trace"} <= set(rows)
    lines = await found(site.server, str(mine))
    (ended,) = [line for line in lines if line["message"] == "call"]
    assert (ended["method"], ended["code"]) == ("/bacmr.v1.RetrievalService/Ask", "OK")
    assert {line["request_id"] for line in lines} == {str(mine)}


async def test_a_refused_call_is_found_by_the_id_that_its_caller_was_told(site: Site) -> None:
    async with grpc.aio.insecure_channel(site.server.target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await auth_pb2_grpc.AuthServiceStub(channel).GetMe(auth_pb2.GetMeRequest())
    told = dict(refused.value.trailing_metadata())["x-request-id"]
    assert [line["code"] for line in await found(site.server, told)] == ["UNAUTHENTICATED"]


async def found(server: Server, told: str) -> list[dict[str, Any]]:
    async with asyncio.timeout(5):
        while not (lines := lines_with(server, told)):  # noqa: ASYNC110 - the file is another process's
            await asyncio.sleep(0.05)
    return lines


async def test_the_edge_follows_its_settings(site: Site) -> None:
    forwarded = ("x-forwarded-for", "198.51.100.7")
    mine, by_web = str(uuid4()), str(uuid4())
    async with grpc.aio.insecure_channel(site.server.target) as channel:
        jwks = channel.unary_unary("/bacmr.v1.AuthService/GetJwks")
        await jwks(b"", metadata=[forwarded, ("x-request-id", mine)])
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await jwks(b"\x0a" * 1_000_001)
    assert "grpc-status-details-bin" in dict(refused.value.trailing_metadata())
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    web = f"http://{site.server.http}"
    await web_call(web, "/bacmr.v1.AuthService/GetJwks", b"", [forwarded, ("x-request-id", by_web)])
    # Loopback is none of the proxies that this server trusts.
    assert [(await found(site.server, told))[0]["address"] for told in (mine, by_web)] == ["127.0.0.1"] * 2
    async with httpx.AsyncClient(base_url=web) as http:
        assert (await http.get("/metrics/json")).status_code == 401
        assert (await http.get("/metrics/json", headers={"authorization": "Bearer figures"})).status_code == 200


async def test_every_line_of_the_log_is_json_with_one_kind_of_timestamp_and_no_password(site: Site) -> None:
    lines = [line for line in site.server.output.splitlines() if line.startswith("{")]
    assert len(lines) > 5
    for line in lines:
        at = json.loads(line)["timestamp"]
        assert len(at) == len("2026-11-20T22:00:00.000000Z")
        assert at.endswith("Z")
    assert PASSWORD not in site.server.output
    assert site.server.password not in site.server.output


def filled(descriptor: Descriptor, depth: int = 0) -> Message:
    """A message that gets far: ids are ids, every other text is the secret."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if (
            field.is_repeated
            or field.name == "page_token"
            or (field.containing_oneof is not None and field.containing_oneof.fields[0] is not field)
        ):
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            name = str(uuid4()) if field.name.endswith("_id") else SECRET
            setattr(message, field.name, f"{SECRET}@example.org" if field.name == "email" else name)
        elif field.type == FieldDescriptor.TYPE_BYTES:
            setattr(message, field.name, SECRET.encode())
        elif field.type in {FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_ENUM}:
            setattr(message, field.name, 1)
        elif field.message_type and depth < 2 and not field.message_type.full_name.startswith("google."):
            getattr(message, field.name).CopyFrom(filled(field.message_type, depth + 1))
    return message


async def test_secrets_sent_through_every_method_of_the_real_server_reach_no_log(site: Site) -> None:
    codes: Counter[grpc.StatusCode] = Counter()
    async with BacmrClient(site.server.target) as student, BacmrClient(site.server.target) as operator:
        await signed_up(student)
        await operator.sign_in(OPERATOR, site.server.password)
        async with grpc.aio.insecure_channel(site.server.target) as channel:
            for client in (student, operator):
                assert client.session is not None
                metadata = [("authorization", f"Bearer {client.session.access_token}")]
                for service in services():
                    for method in service.descriptor.methods:
                        if method.name in LASTING:
                            continue
                        call = channel.stream_stream(f"/{service.descriptor.full_name}/{method.name}")
                        raw = filled(method.input_type).SerializeToString()
                        error = await error_of(call(iter([raw]), metadata=metadata, timeout=5))
                        codes[error.code() if error else grpc.StatusCode.OK] += 1
                tokens_of = (client.session.access_token, client.session.refresh_token)
                assert not any(token in site.server.output for token in tokens_of)
        last = str(uuid4())
        me = auth_pb2.GetMeRequest()
        await operator.auth.GetMe(me, metadata=(("x-request-id", last),))
    # Lines are written in order: when the last call's is there, so are all before it.
    await found(site.server, last)
    assert codes[grpc.StatusCode.OK] >= 20, codes
    assert codes.keys().isdisjoint({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})
    assert SECRET not in site.server.output


async def test_a_key_rotated_beside_the_running_server_is_taken_up_and_signs_nobody_out(site: Site) -> None:
    environment, keys = settings(site.server.folder), site.server.folder / "data" / "keys"
    async with BacmrClient(site.server.target) as student:
        session = await signed_up(student)
        done = await asyncio.to_thread(
            subprocess.run, command("keys", "rotate"), env=environment, capture_output=True, text=True, check=True
        )
        new = done.stdout.split()[0]
        key = next(each for each in Keyring(keys, 900).signing_keys() if each.key_id == new)
        assert key.verifies_until is None
        claims = jwt.decode(session.access_token, options={"verify_signature": False})
        theirs = tokens.signed(
            {name: claims[name] for name in ("sub", "app_metadata")},
            key.private,
            new,
            Rule("bacmr", "bacmr", (SIGNING_ALGORITHM,)),
            session_id=UUID(claims["session_id"]),
            issued_at=claims["iat"],
            expires_at=claims["exp"],
        )
        async with grpc.aio.insecure_channel(site.server.target) as channel:
            stub = auth_pb2_grpc.AuthServiceStub(channel)
            for token in (theirs, session.access_token):
                metadata = [("authorization", f"Bearer {token}")]
                assert (await stub.GetMe(auth_pb2.GetMeRequest(), metadata=metadata)).user.id == session.user.id
    async with httpx.AsyncClient() as http:
        published = (await http.get(f"http://{site.server.http}/.well-known/jwks.json")).json()["keys"]
    old = jwt.get_unverified_header(session.access_token)["kid"]
    assert [each["kid"] for each in published] == [new, old]
    listed = await asyncio.to_thread(
        subprocess.run, command("keys", "list"), env=environment, capture_output=True, text=True, check=True
    )
    assert [line.split()[:2] for line in listed.stdout.splitlines()] == [[new, "signs"], [old, "verifies"]]
