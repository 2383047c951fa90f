"""What the embedded Milvus keeps through crashes of its child process, of its parent and of single files."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import pytest_asyncio

from server import refusal
from server.models.breakers import Breakers
from server.vectors.filters import index_name
from server.vectors.lite import MilvusLite, StartFailed, running_uri
from server.vectors.milvus import MilvusStore
from server.vectors.port import VectorFilter, VectorRow

DIMENSIONS = 16
INDEX = index_name("crash", DIMENSIONS)
EVERYTHING = VectorFilter(everything=True)
QUERY = np.ones(DIMENSIONS, np.float32)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "milvus"


@pytest_asyncio.fixture
async def lite(folder: Path) -> AsyncIterator[MilvusLite]:
    child = MilvusLite(folder)
    await child.start()
    yield child
    await child.stop()


@pytest_asyncio.fixture
async def store(lite: MilvusLite) -> AsyncIterator[MilvusStore]:
    opened = MilvusStore(lite.uri)
    await opened.create_index(INDEX, DIMENSIONS)
    yield opened
    await opened.close()


def rows(count: int) -> list[VectorRow]:
    random = np.random.default_rng(3)
    return [
        VectorRow(
            chunk_id=sha256(str(number).encode()).hexdigest(),
            vector=random.normal(size=DIMENSIONS).astype(np.float32),
            document_id=UUID(int=1),
            namespace="grade-12-math",
            subject="",
            grade="",
            language="fr",
            owner_id=None,
        )
        for number in range(count)
    ]


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def restarted(lite: MilvusLite, store: MilvusStore, former: int | None) -> None:
    async with asyncio.timeout(60):
        while lite.pid in (None, former) or not await store.healthy():  # noqa: ASYNC110 - another process has no event
            await asyncio.sleep(0.02)


async def kill(lite: MilvusLite, store: MilvusStore) -> None:
    former = lite.pid
    assert former is not None
    os.kill(former, signal.SIGKILL)
    await restarted(lite, store, former)


async def test_a_killed_child_comes_back_with_every_acknowledged_row(lite: MilvusLite, store: MilvusStore) -> None:
    written = rows(600)
    await store.upsert(INDEX, written[:400])
    await store.flush(INDEX)
    await store.upsert(INDEX, written[400:])
    await store.activate(INDEX)
    await kill(lite, store)
    assert await store.count(INDEX) == 600
    assert await store.ids(INDEX) == {row.chunk_id for row in written}
    assert await store.live() == INDEX
    assert len(await store.search(INDEX, QUERY, 30, EVERYTHING)) == 30


async def test_a_child_killed_while_it_writes_converges_on_the_same_rows(lite: MilvusLite, store: MilvusStore) -> None:
    written = rows(3_000)
    writing = asyncio.create_task(store.upsert(INDEX, written))
    while await store.count(INDEX) < 256:
        pass
    former = lite.pid
    assert former is not None
    os.kill(former, signal.SIGKILL)
    with pytest.raises(refusal.StoreUnavailable):
        await writing
    await restarted(lite, store, former)
    assert await store.upsert(INDEX, written) == 3_000
    assert await store.count(INDEX) == 3_000


async def test_a_store_without_its_child_says_so(lite: MilvusLite, store: MilvusStore) -> None:
    await lite.stop()
    assert lite.pid is None
    assert not await store.healthy()
    with pytest.raises(refusal.StoreUnavailable):
        await store.search(INDEX, QUERY, 5, EVERYTHING)


async def test_rows_that_a_crash_left_twice_are_healed_on_start(
    folder: Path, lite: MilvusLite, store: MilvusStore
) -> None:
    collection = folder / "lite" / "collections" / INDEX
    await store.upsert(INDEX, rows(100))
    log = shutil.copytree(collection / "wal", folder / "copy")
    await store.flush(INDEX)
    await lite.stop()
    shutil.copytree(log, collection / "wal", dirs_exist_ok=True)  # as if killed after the flush, before the clean-up
    await lite.start()
    hits = await store.search(INDEX, QUERY, 100, EVERYTHING)
    assert await store.count(INDEX) == 100
    assert len({hit.chunk_id for hit in hits}) == len(hits) == 100


async def test_a_cut_index_file_is_rebuilt_on_start(folder: Path, lite: MilvusLite, store: MilvusStore) -> None:
    await store.upsert(INDEX, rows(50))
    await store.flush(INDEX)
    await lite.stop()
    sidecars = list((folder / "lite").rglob("*.idx"))
    assert sidecars
    for sidecar in sidecars:
        sidecar.write_bytes(sidecar.read_bytes()[:100])
    await lite.start()
    assert len(await store.search(INDEX, QUERY, 50, EVERYTHING)) == 50


async def test_a_second_child_on_one_folder_is_refused_with_its_reason(folder: Path, lite: MilvusLite) -> None:
    with pytest.raises(StartFailed, match="another process holds the vector folder"):
        await MilvusLite(folder, lock_wait_seconds=0.1).start()
    assert lite.pid is not None
    assert running_uri(folder) == lite.uri


async def test_a_child_that_cannot_write_its_folder_names_its_log(folder: Path) -> None:
    os.makedirs(folder)
    shutil.copy(__file__, folder / "lite")  # a file where the data folder should be
    with pytest.raises(StartFailed, match=r"milvus\.log"):
        await MilvusLite(folder).start()


async def test_a_folder_with_a_long_name_works(tmp_path: Path) -> None:
    child = MilvusLite(tmp_path / ("x" * 120))
    await child.start()
    store = MilvusStore(child.uri)
    assert await store.healthy()
    await store.close()
    await child.stop()
    assert running_uri(tmp_path / ("x" * 120)) is None


async def test_a_killed_parent_takes_its_child_along_and_the_next_one_starts(folder: Path) -> None:
    script = (
        "import asyncio, pathlib, sys; from server.vectors.lite import MilvusLite\n"
        "async def main():\n"
        f"    child = MilvusLite(pathlib.Path({str(folder)!r}))\n"
        "    await child.start(); print(child.pid, flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT)  # noqa: ASYNC220
    assert parent.stdout is not None
    with parent.stdout as stdout:
        child = int(await asyncio.to_thread(stdout.readline))
    parent.kill()
    await asyncio.to_thread(parent.wait)
    heir = MilvusLite(folder)
    await heir.start()
    assert ended(child)
    await heir.stop()


async def test_the_child_does_not_inherit_secrets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACMR_TEST_SECRET", "hidden")
    child = MilvusLite(folder)
    await child.start()
    environment = await asyncio.to_thread(Path(f"/proc/{child.pid}/environ").read_bytes)
    await child.stop()
    assert b"LC_ALL" in environment
    assert b"hidden" not in environment


async def test_a_store_that_keeps_failing_is_left_alone(lite: MilvusLite, store: MilvusStore) -> None:
    breakers = Breakers(3, 600)
    guarded = MilvusStore(lite.uri, guard=breakers.call)
    await guarded.upsert(INDEX, rows(5))
    await lite.stop()
    for _ in range(5):
        with pytest.raises(refusal.StoreUnavailable):
            await guarded.search(INDEX, QUERY, 5, EVERYTHING)
    assert breakers.states() == {"milvus_upsert": 0, "milvus_query": 1}
    await guarded.close()
