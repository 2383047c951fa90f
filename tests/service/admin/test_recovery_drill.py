"""A drill restores into scratch stores, measures, and leaves nothing behind."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio

from server.admin.recovery.drill import Drill, Original
from server.admin.recovery.export import Exporter, Wish
from server.admin.recovery.place import Places
from server.caller import Caller, acting_as
from server.database.pool import Database
from server.database.scratch import PREFIX, scratch_database
from server.models.port import Embedder
from server.refusal import ExportInvalid, IllegalState
from server.vectors.filters import index_name
from server.vectors.milvus import MilvusStore
from tests.conftest import Addresses
from tests.fakes import WordEmbedder
from tests.service.admin.recovering import KEY, Watched, blob_folder, contents, places, spend
from tests.service.ingestion.ingesting import House, sample


class OtherEmbedder(WordEmbedder):
    """Makes vectors of another space under the same name."""

    async def embed(self, texts, purpose):
        return -await super().embed(texts, purpose)


@pytest_asyncio.fixture(scope="module")
async def house(
    database: Database,
    vectors: MilvusStore,
    tmp_path_factory: pytest.TempPathFactory,
    make_user: Callable[..., Caller],
) -> House:
    folder = tmp_path_factory.mktemp("drilled")
    blob_folder(folder / "blobs")
    embedder = WordEmbedder()
    index = index_name("drilled", embedder.dimensions)
    await vectors.create_index(index, embedder.dimensions)
    await vectors.activate(index)
    made = House(database, vectors, index, embedder, folder, blob_url=(folder / "blobs").as_uri())
    with acting_as(make_user("teacher")):
        await made.ingest(sample("biologie_photosynthese.pdf"), "biologie_photosynthese.pdf")
    await spend(database, make_user("student", tokens=1_000), 100)
    return made


@pytest.fixture
def area(house: House) -> Places:
    return places(house.blobs, house.blob_url)


def drill(addresses: Addresses, house: House, area: Places, embedder: Embedder | None = None) -> Drill:
    return Drill(
        Original(addresses.url, addresses.owner_url, house.blobs),
        Exporter(addresses.owner_url, house.blobs, KEY, "1.2.3"),
        area,
        lambda model, dimensions: embedder or house.embedder,
        KEY,
    )


@pytest.fixture
def leftovers(addresses: Addresses) -> Callable[[], set[str]]:
    """A function that returns what drills left: databases and temporary folders."""

    def look() -> set[str]:
        with psycopg.connect(addresses.owner_url, autocommit=True) as owner:
            names = owner.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{PREFIX}%"]).fetchall()
        folders = {str(folder) for folder in Path(tempfile.gettempdir()).glob("bacmr-drill-*")}
        return {name for (name,) in names} | folders

    before = look()
    return lambda: look() - before


async def test_a_drill_proves_a_fresh_export_and_measures(
    addresses: Addresses, house: House, area: Places, leftovers: Callable[[], set[str]]
) -> None:
    before = contents(addresses.owner_url)
    found = await drill(addresses, house, area).run("", Watched())
    assert [check for check in found.checks if not check.ok] == []
    assert {
        "vectors_can_be_made_again",
        "full_text_finds",
        "vectors_find",
        "hash_chain_verifies",
        "files_are_there",
    } <= {check.name for check in found.checks}
    assert 0 < found.recovery_point_seconds < 60
    assert 0 < found.recovery_time_seconds < 60
    assert found.lost_entries == 0
    assert found.vectors > 0
    assert leftovers() == set()
    assert contents(addresses.owner_url) == before


async def test_a_drill_tells_what_a_loss_would_cost_now(
    addresses: Addresses, house: House, area: Places, database: Database, make_user: Callable[..., Caller]
) -> None:
    place = area.fresh("weekly")
    await Exporter(addresses.owner_url, house.blobs, KEY, "1").export(Wish(uuid4(), copy_files=True), place, Watched())
    await spend(database, make_user("student", tokens=50), 10)
    found = await drill(addresses, house, area).run(place.location, Watched())
    assert found.ok
    assert found.lost_entries == 4


async def test_a_drill_fails_where_the_model_makes_other_vectors(
    addresses: Addresses, house: House, area: Places
) -> None:
    found = await drill(addresses, house, area, OtherEmbedder()).run("", Watched())
    assert [check.name for check in found.checks if not check.ok] == ["vectors_can_be_made_again"]


async def test_a_drill_of_a_damaged_export_fails_and_cleans_up(
    addresses: Addresses, house: House, area: Places, tmp_path: Path, leftovers: Callable[[], set[str]]
) -> None:
    place = area.to(str(tmp_path / "export"))
    await Exporter(addresses.owner_url, house.blobs, KEY, "1").export(Wish(uuid4()), place, Watched())
    (tmp_path / "export" / "chunk.ndjson.enc").write_bytes(b"")
    with pytest.raises(ExportInvalid):
        await drill(addresses, house, area).run(place.location, Watched())
    assert leftovers() == set()


async def test_what_a_killed_drill_left_is_dropped_by_the_next_one(addresses: Addresses) -> None:
    with psycopg.connect(addresses.owner_url, autocommit=True) as owner:
        for name in (f"{PREFIX}1_old", f"{PREFIX}99999999999_new"):
            owner.execute(f'CREATE DATABASE "{name}"')
        async with scratch_database(addresses.url, addresses.owner_url):
            pass
        left = owner.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{PREFIX}%"]).fetchall()
        owner.execute(f'DROP DATABASE "{PREFIX}99999999999_new"')
    assert left == [(f"{PREFIX}99999999999_new",)]


async def test_a_login_that_may_make_no_database_is_told_what_it_needs(addresses: Addresses) -> None:
    with pytest.raises(IllegalState, match="CREATEDB"):
        async with scratch_database(addresses.url, addresses.url):
            pass
