"""A worker killed -9 at any step of a reindex: the next run ends with the index that it would have made."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from server import caller
from server.caller import Caller
from server.corpus.index import IndexState
from tests.conftest import Addresses
from tests.service.indexes.reindexing import AGE, NEW, IndexHouse, succeeded
from tests.service.ingestion.ingesting import Placement

ROOT = Path(__file__).parents[3]
STEPS = [
    ("vectors", "create_index", "before", 1),
    ("vectors", "create_index", "after", 1),
    ("embedder", "embed", "before", 1),
    ("refs", "keep", "after", 2),
    ("vectors", "upsert", "before", 2),
    ("vectors", "upsert", "after", 2),
    ("refs", "refer", "after", 3),
    ("vectors", "flush", "after", 1),
    ("vectors", "ids", "after", 1),
    ("vectors", "search", "after", 1),
    ("vectors", "count", "after", 1),
]


async def killed_run(
    house: IndexHouse, addresses: Addresses, store_uri: str, operation_id: object, step: tuple[object, ...]
) -> int:
    """Run the operation in a process that dies at a step; return how that process ended."""
    task = {
        "database_url": addresses.url,
        "milvus_uri": store_uri,
        "index": house.index,
        "scratch": str(house.scratch),
        "operation_id": str(operation_id),
        "kill": step,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.service.indexes.killed", json.dumps(task), cwd=ROOT
    )
    return await asyncio.wait_for(process.wait(), 120)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS, ids=lambda step: "-".join(map(str, step)))
async def test_a_killed_reindex_is_made_good_by_the_next_run(
    house: IndexHouse, admin: Caller, addresses: Addresses, store_uri: str, step: tuple[object, ...]
) -> None:
    with caller.acting_as(admin):
        started = await house.indexes.start("", NEW, uuid4())

    assert await killed_run(house, addresses, store_uri, started.id, step) == -signal.SIGKILL

    live = await house.spaces.live()
    assert live is not None
    assert live.index == house.index
    result = succeeded(await house.run(started.id))
    assert await house.vectors.ids(result["index"]) == await house.all_chunks()
    assert (await house.read(result["index"])).state is IndexState.READY
    assert len(await listed(house)) == 2


@pytest.mark.slow
async def test_a_vector_that_a_dying_worker_put_in_the_place_of_a_newer_one_is_written_again(
    house: IndexHouse, admin: Caller, addresses: Addresses, store_uri: str
) -> None:
    with caller.acting_as(admin):
        started = await house.indexes.start("", NEW, uuid4())
    await killed_run(house, addresses, store_uri, started.id, ("vectors", "upsert", "before", 1))
    (building,) = [each for each in await listed(house) if each.state is IndexState.BUILDING]
    stale = await house.first_of_batch(building)
    second = await house.service.create_job(stale.document_id, Placement("grade-10-physics", "", ""), uuid4())
    await house.run_queued()
    assert (await house.service.job(second.id)).state == "READY"
    await house.put(building.name, stale)  # what the dying worker still wrote

    succeeded(await house.run(started.id))

    assert await house.vectors.count(building.name, "grade-10-physics") == 5
    assert await house.vectors.count(building.name, stale.namespace) == 5


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
async def test_terms_are_made_again_from_the_batch_on_at_which_a_worker_was_killed(
    house: IndexHouse, admin: Caller, addresses: Addresses, store_uri: str, owner: psycopg.Connection, when: str
) -> None:
    before = owner.execute("SELECT id, terms, term_count FROM chunk ORDER BY id").fetchall()
    owner.execute(AGE)
    with caller.acting_as(admin):
        started = await house.indexes.start("", NEW, uuid4())

    step = ("progress", "report", when, 2)
    assert await killed_run(house, addresses, store_uri, started.id, step) == -signal.SIGKILL

    assert await house.outdated() == len(before) - 2 * house.batch
    assert succeeded(await house.run(started.id))["renewed_terms"] == len(before) - 2 * house.batch
    assert owner.execute("SELECT id, terms, term_count FROM chunk ORDER BY id").fetchall() == before
    assert await house.outdated() == 0


async def listed(house: IndexHouse):
    with caller.acting_as(caller.system()):
        return await house.catalogue.listed()
