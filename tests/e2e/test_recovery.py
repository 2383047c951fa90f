"""A real server loses a store, or all of them, and comes back by the recipes of docs/recipes/disaster-recovery.md."""

import asyncio
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from bacmr.client import BacmrClient, request_id
from bacmr.refusals import refusal
from bacmr.v1 import admin_pb2, ingestion_pb2, quiz_pb2, retrieval_pb2, wallet_pb2
from tests.e2e.conftest import OPERATOR, ROOT, Server, command, passable_folder, settings, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LESSON = ROOT / "samples" / "physique_newton.pdf"
QUESTION = "Quel est le principe d'inertie énoncé par Newton ?"
STUDENT, PASSWORD = "student@example.org", "a long enough password"
KEY = "the key that exports are encrypted with"


@dataclass
class System:
    """A server that can be stopped, robbed of its stores and started again on what is left."""

    folder: Path
    password: str = "an operator's password"
    server: Server | None = None
    before: dict[str, object] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        self.server = start(self.folder, password=self.password, BACMR_EXPORT_KEY=KEY)

    def stop(self) -> None:
        if self.server is not None:
            assert self.server.stop() == 0
            self.server = None

    def run(self, *words: str, **more: str) -> tuple[int, dict[str, object], str]:
        """A command with the server's settings: its exit code, its JSON and what it told people."""
        environment = settings(self.folder, **{"BACMR_EXPORT_KEY": KEY, **more})
        done = subprocess.run(command(*words), env=environment, capture_output=True, text=True, timeout=120)
        return done.returncode, json.loads(done.stdout or "{}"), done.stderr

    def lose(self, store: str) -> None:
        shutil.rmtree(self.data / store)

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[BacmrClient]:
        async with BacmrClient(self.server.target) as client:
            await client.sign_in(OPERATOR, self.password)
            yield client

    @asynccontextmanager
    async def student(self) -> AsyncIterator[BacmrClient]:
        async with BacmrClient(self.server.target) as client:
            await client.sign_in(STUDENT, PASSWORD)
            yield client

    async def state(self) -> dict[str, object]:
        """What the student and the operator see, as far as recovery must keep it."""
        async with self.student() as student, self.operator() as operator:
            entries = await student.wallet.ListLedgerEntries(wallet_pb2.ListLedgerEntriesRequest())
            conversations = await student.retrieval.ListConversations(retrieval_pb2.ListConversationsRequest())
            quizzes = await student.quiz.ListQuizzes(quiz_pb2.ListQuizzesRequest())
            documents = await operator.ingestion.ListDocuments(ingestion_pb2.ListDocumentsRequest())
            balance = await student.wallet.GetBalance(wallet_pb2.GetBalanceRequest())
            return {
                "tokens": balance.available_tokens,
                "ledger": [entry.hash for entry in entries.entries],
                "conversations": [conversation.id for conversation in conversations.conversations],
                "quizzes": [quiz.id for quiz in quizzes.quizzes],
                "documents": [(document.sha256, document.chunk_count) for document in documents.documents],
            }

    async def is_whole(self) -> None:
        """Assert that money is proven, nothing is gone, and a question is answered from the library's vectors."""
        assert await self.state() == self.before
        async with self.operator() as operator:
            money = await operator.admin.ReconcileWallets(admin_pb2.ReconcileWalletsRequest())
            status = await operator.admin.GetStatus(admin_pb2.GetStatusRequest())
        assert [check for check in money.checks if not check.ok] == []
        assert [(index.actual_count, index.expected_count) for index in status.indexes if index.expected_count] == [
            (self.before["documents"][0][1],) * 2
        ]
        async with BacmrClient(self.server.target) as fresh:
            await fresh.sign_up(f"{request_id()}@example.org", PASSWORD)
            events = [event async for event in fresh.ask(QUESTION)]
        assert events[-1].completed.citations
        assert not [event.degraded.step for event in events if event.HasField("degraded")]


@pytest_asyncio.fixture(scope="module")
async def system() -> AsyncIterator[System]:
    """A system with one lesson and one student, who has asked and been quizzed."""
    with passable_folder() as path:
        made = System(path)
        made.start()
        try:
            await live(made)
            made.before = await made.state()
            yield made
        finally:
            made.stop()


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder of another machine."""
    with tempfile.TemporaryDirectory(prefix="bacmr-outside-") as name:
        yield Path(name)


async def live(system: System) -> None:
    async with system.operator() as operator:
        document = await operator.upload(LESSON, "application/pdf")
        job = await operator.ingestion.CreateIngestionJob(
            ingestion_pb2.CreateIngestionJobRequest(
                document_id=document.id, namespace="grade-12", subject="physics", request_id=request_id()
            )
        )
        watched = operator.ingestion.WatchIngestionJob(ingestion_pb2.WatchIngestionJobRequest(job_id=job.job.id))
        states = [event.job.state async for event in watched]
        assert states[-1] == ingestion_pb2.JOB_STATE_READY
    async with BacmrClient(system.server.target) as student:
        await student.sign_up(STUDENT, PASSWORD)
        async for _ in student.ask(QUESTION):
            pass
        request = quiz_pb2.GenerateQuizRequest(topic="les lois de Newton", question_count=2, request_id=request_id())
        async for _ in student.quiz.GenerateQuiz(request):
            pass


async def test_an_export_streams_without_gaps_and_is_made_once_per_request(system: System, outside: Path) -> None:
    request = admin_pb2.ExportDataRequest(destination=str(outside / "one"), compress=True, request_id=request_id())
    async with system.operator() as operator:
        events = [event async for event in operator.admin.ExportData(request)]
        again = [event async for event in operator.admin.ExportData(request)]
    manifest = json.loads((outside / "one" / "manifest.json").read_text())
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert (events[-1].done, events[-1].ok, events[-1].location) == (True, True, str(outside / "one"))
    assert events[-1].rows == sum(table["rows"] for table in manifest["tables"])
    assert {event.operation_id for event in again} == {events[-1].operation_id}
    assert [event.sequence for event in again] == list(range(1, len(again) + 1))
    assert {event.table: event.rows for event in again[:-1]} == {t["name"]: t["rows"] for t in manifest["tables"]}
    assert [(e.stage, e.table, e.rows, e.location) for e in again] == [
        (e.stage, e.table, e.rows, e.location) for e in events[-len(again) :]
    ]
    assert KEY not in (outside / "one" / "manifest.json").read_text() + system.server.output


async def test_a_drill_measures_recovery_beside_the_running_server(system: System) -> None:
    async with system.operator() as operator:
        request = admin_pb2.RunRecoveryDrillRequest(request_id=request_id())
        last = [event async for event in operator.admin.RunRecoveryDrill(request)][-1]
    assert last.ok, [check for check in last.checks if not check.ok]
    assert last.recovery_point.ToSeconds() < 60
    assert last.recovery_time.ToMilliseconds() > 0
    code, found, told = system.run("drill")
    assert code == 0, told
    assert found["ok"]
    assert found["recovery_time_seconds"] > 0
    assert await system.state() == system.before


async def test_an_import_into_a_used_system_is_refused(system: System, outside: Path) -> None:
    code, exported, told = system.run("export", str(outside / "two"))
    assert code == 0, told
    with pytest.raises(grpc.aio.AioRpcError) as error:
        async with system.operator() as operator:
            request = admin_pb2.ImportDataRequest(location=exported["location"], request_id=request_id())
            async for _ in operator.admin.ImportData(request):
                pass
    assert refusal(error.value).reason == "ILLEGAL_STATE"
    code, _, told = system.run("import", str(outside / "two"))
    assert (code, "not empty" in told) == (2, True)
    code, _, told = system.run("import", str(outside / "two"), BACMR_EXPORT_KEY="another")
    assert (code, "another key" in told) == (2, True)
    assert await system.state() == system.before


async def test_an_empty_server_is_filled_over_the_wire(system: System, outside: Path) -> None:
    code, exported, told = system.run("export", str(outside / "export"), "--with-files")
    assert code == 0, told
    with passable_folder() as path:
        other = System(path, before=system.before)
        other.start()
        try:
            request = admin_pb2.ImportDataRequest(location=exported["location"], request_id=request_id())
            async with other.operator() as operator:
                events = [event async for event in operator.admin.ImportData(request)]
                again = [event async for event in operator.admin.ImportData(request)]
            assert events[-1].ok, events[-1].checks
            assert [(event.done, event.ok) for event in again] == [(True, True)]
            assert [event.sequence for event in events] == list(range(1, len(events) + 1))
            other.password = system.password
            await other.is_whole()
        finally:
            other.stop()


async def test_lost_vectors_come_back(system: System) -> None:
    system.stop()
    system.lose("milvus")
    system.start()
    await healed(system)
    await system.is_whole()


async def test_a_lost_database_comes_back_from_an_export(system: System, outside: Path) -> None:
    code, exported, told = system.run("export", str(outside / "export"))
    assert code == 0, told
    system.stop()
    system.lose("postgres")
    code, _, told = system.run("import", str(outside / "export"))
    assert code == 0, told
    code, reconciled, _ = system.run("reconcile")
    assert (code, reconciled["head"]) == (0, exported["ledger_head"])
    system.start()
    await system.is_whole()


async def test_lost_files_come_back_from_an_export(system: System, outside: Path) -> None:
    code, _, told = system.run("export", str(outside / "export"), "--with-files")
    assert code == 0, told
    system.stop()
    system.lose("blobs")
    system.start()
    await system.is_whole()
    code, result, _ = system.run("export", str(outside / "without"))
    assert (code, result["ok"]) == (1, False)
    code, result, told = system.run("import", str(outside / "export"), "--only-files")
    assert (code, result["ok"]) == (0, True), told
    await system.is_whole()
    files = [file for file in (system.data / "blobs" / "files").rglob("*") if file.is_file()]
    assert [file.read_bytes() for file in files] == [LESSON.read_bytes()]


async def test_everything_lost_comes_back_from_an_export(system: System, outside: Path) -> None:
    code, exported, told = system.run("export", str(outside / "export"), "--with-files", "--compress")
    assert code == 0, told
    system.stop()
    keys = outside / "keys"
    shutil.copytree(system.data / "keys", keys)
    shutil.copy(system.data / "secret", outside / "secret")
    shutil.rmtree(system.data)
    system.data.mkdir(mode=0o711)
    shutil.copytree(keys, system.data / "keys")
    shutil.copy(outside / "secret", system.data / "secret")
    code, imported, told = system.run("import", str(outside / "export"))
    assert code == 0, told
    assert imported["rows"] == exported["rows"]
    code, reconciled, _ = system.run("reconcile")
    assert (code, reconciled["head"]) == (0, exported["ledger_head"])
    system.start()
    await system.is_whole()
    files = [file for file in (system.data / "blobs" / "files").rglob("*") if file.is_file()]
    assert [file.read_bytes() for file in files] == [LESSON.read_bytes()]


async def healed(system: System) -> None:
    """Wait until the server has written the vectors again."""
    async with system.operator() as operator:
        async with asyncio.timeout(60):
            while True:
                status = await operator.admin.GetStatus(admin_pb2.GetStatusRequest())
                if all(index.actual_count >= index.expected_count for index in status.indexes):
                    return
                await asyncio.sleep(0.2)
