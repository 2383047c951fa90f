"""A library moves to another embedding model while it is served, by the command line, and survives what happens."""

import json
import subprocess
from pathlib import Path

import psycopg
import pytest

from bacmr.client import BacmrClient, request_id
from bacmr.v1 import admin_pb2, ingestion_pb2, retrieval_pb2
from server.database.embedded import EmbeddedPostgres
from tests.e2e.conftest import OPERATOR, ROOT, Server, command, settings, start

SAMPLES = ROOT / "samples"
QUESTION = "Quel est le principe d'inertie énoncé par Newton ?"
OLD, NEW = "local-hash-1024-v1", "local-hash-1536-v1"


def bacmr(server: Server, *words: str, **more: str) -> subprocess.CompletedProcess:
    """Run a command against a server, as its operator."""
    signed_in = {"BACMR_TARGET": server.target, "BACMR_EMAIL": OPERATOR, "BACMR_PASSWORD": server.password}
    environment = settings(server.folder, **more) | signed_in
    return subprocess.run(
        command(*words), env=environment, capture_output=True, text=True, timeout=170, cwd=server.folder
    )


async def fill(server: Server) -> None:
    """Ingest a lesson in each language."""
    async with BacmrClient(server.target) as operator:
        await operator.sign_in(OPERATOR, server.password)
        for name in ("physique_newton.pdf", "falsafa_haqiqa.pdf"):
            document = await operator.upload(SAMPLES / name, "application/pdf")
            created = await operator.ingestion.CreateIngestionJob(
                ingestion_pb2.CreateIngestionJobRequest(
                    document_id=document.id, namespace="grade-12", subject="", grade="12", request_id=request_id()
                )
            )
            watch = ingestion_pb2.WatchIngestionJobRequest(job_id=created.job.id)
            states = [event.job.state async for event in operator.ingestion.WatchIngestionJob(watch)]
            assert states[-1] == ingestion_pb2.JOB_STATE_READY


async def indexes(server: Server) -> dict[str, admin_pb2.Index]:
    """The server's indexes by model and state."""
    async with BacmrClient(server.target) as operator:
        await operator.sign_in(OPERATOR, server.password)
        status = await operator.admin.GetStatus(admin_pb2.GetStatusRequest())
    return {f"{each.embedding_model} {admin_pb2.IndexState.Name(each.state)[12:]}": each for each in status.indexes}


async def found(server: Server) -> list[str]:
    """What a question finds; nothing may be degraded."""
    async with BacmrClient(server.target) as operator:
        await operator.sign_in(OPERATOR, server.password)
        answer = await operator.retrieval.Search(retrieval_pb2.SearchRequest(query=QUESTION))
    assert not answer.degraded
    return [passage.text for passage in answer.passages]


@pytest.mark.slow
async def test_a_library_moves_to_another_model_and_back_without_a_pause(server):
    await fill(server)
    before = await found(server)

    built = bacmr(server, "reindex", "--all", "--model", "local-1536")
    assert built.returncode == 0, built.stderr
    assert "switch: bacmr reindex --all --model local-1536 --activate" in built.stderr
    assert set(await indexes(server)) == {f"{OLD} ACTIVE", f"{NEW} READY"}
    assert await found(server) == before

    switched = bacmr(server, "reindex", "--all", "--model", "local-1536", "--activate")
    assert switched.returncode == 0, switched.stderr
    there = await indexes(server)
    assert set(there) == {f"{OLD} RETIRED", f"{NEW} ACTIVE"}
    assert len({(each.expected_count, each.actual_count) for each in there.values()}) == 1
    assert there[f"{NEW} ACTIVE"].sample_recall > 0.5
    assert (await found(server))[0] == before[0]

    active = bacmr(server, "reindex", "--drop", there[f"{NEW} ACTIVE"].name)
    assert (active.returncode, "cannot be dropped" in active.stderr) == (2, True)
    back = bacmr(server, "reindex", "--rollback")
    assert back.returncode == 0, back.stderr
    assert await found(server) == before
    dropped = bacmr(server, "reindex", "--drop", there[f"{NEW} ACTIVE"].name)
    assert dropped.returncode == 0, dropped.stderr
    assert set(await indexes(server)) == {f"{OLD} ACTIVE"}

    texts = server.folder / "texts.ndjson"
    exported = bacmr(server, "reindex", "--export-only", "--output", str(texts))
    assert exported.returncode == 0, exported.stderr
    lines = [json.loads(line) for line in texts.read_text().splitlines()]
    assert len(lines) == there[f"{NEW} ACTIVE"].expected_count
    assert all(line["text"] and line["namespace"] == "grade-12" for line in lines)


@pytest.mark.slow
async def test_settings_that_name_another_model_leave_the_search_as_it_is_until_a_reindex(folder):
    server = start(folder)
    await fill(server)
    before = await found(server)
    assert server.stop() == 0

    again = start(folder, BACMR_EMBEDDING_MODEL="local-1536", password=server.password)
    assert "embedding_model_differs" in again.output
    assert await found(again) == before
    moved = bacmr(again, "reindex", "--all", "--activate")
    assert moved.returncode == 0, moved.stderr
    assert set(await indexes(again)) == {f"{OLD} RETIRED", f"{NEW} ACTIVE"}
    assert (await found(again))[0] == before[0]
    assert again.stop() == 0


def age_terms(folder: Path) -> int:
    """Leave the terms of all chunks as a release with another analyser would; returns how many chunks."""
    postgres = EmbeddedPostgres(folder / "data" / "postgres").start()
    try:
        with psycopg.connect(postgres.connection.owner_url(), options="-c search_path=bacmr") as owner:
            return owner.execute("UPDATE chunk SET terms = '', term_count = 0, analyser_version = 0").rowcount
    finally:
        postgres.stop()


@pytest.mark.slow
async def test_search_terms_of_another_release_are_told_of_and_made_again_on_request(folder):
    server = start(folder)
    await fill(server)
    assert server.stop() == 0
    told = f"{age_terms(folder)} chunks have search terms of another release"

    again = start(folder, password=server.password)
    assert told in again.output
    assert told in bacmr(again, "doctor").stdout
    assert told in bacmr(again, "admin", "status", COLUMNS="300").stdout

    made = bacmr(again, "reindex", "--terms")
    assert made.returncode == 0, made.stderr
    assert told not in bacmr(again, "doctor").stdout
    assert told not in bacmr(again, "admin", "status", COLUMNS="300").stdout
    assert again.stop() == 0


@pytest.mark.slow
async def test_a_server_killed_during_a_reindex_goes_on_with_it(folder):
    server = start(folder)
    await fill(server)
    async with BacmrClient(server.target) as operator:
        await operator.sign_in(OPERATOR, server.password)
        asked = admin_pb2.StartReindexRequest(embedding_model="local-1536", request_id=request_id())
        operation = (await operator.admin.StartReindex(asked)).operation
        watch = admin_pb2.WatchOperationRequest(operation_id=operation.id)
        async for event in operator.admin.WatchOperation(watch):
            if event.operation.stage:
                break
        server.process.kill()
    server.process.wait()

    again = start(folder, password=server.password)
    async with BacmrClient(again.target) as operator:
        await operator.sign_in(OPERATOR, again.password)
        states = [event.operation.state async for event in operator.admin.WatchOperation(watch)]
    assert states[-1] == admin_pb2.OPERATION_STATE_SUCCEEDED
    there = await indexes(again)
    assert set(there) == {f"{OLD} ACTIVE", f"{NEW} READY"}
    assert len({(each.expected_count, each.actual_count) for each in there.values()}) == 1
    assert await found(again)
    assert again.stop() == 0
