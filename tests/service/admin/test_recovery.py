"""An export restores everything, and only a whole and unchanged one restores anything."""

import hashlib
import itertools
import json
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import text

from server.admin.recovery import manifest as manifests
from server.admin.recovery.export import Exporter, Wish
from server.admin.recovery.import_ import Importer, Target, open_export
from server.admin.recovery.place import Place, Places
from server.admin.recovery.service import KEPT_EXPORTS, SCHEDULED, Exports
from server.admin.recovery.tables import EXPORTED, LEFT_OUT
from server.blobs.objects import open_blobs
from server.caller import Caller, acting_as, system
from server.corpus.terms import SearchTerms
from server.database.embedded import EmbeddedPostgres
from server.database.pool import Database
from server.refusal import AlreadyExists, ExportInvalid, IllegalState, StoreUnavailable
from server.vectors.filters import index_name
from server.vectors.milvus import MilvusStore
from server.wallet.service import WalletService
from tests.conftest import Addresses
from tests.fakes import WordEmbedder
from tests.s3 import CREDENTIALS, serving
from tests.service.admin.recovering import (
    KEY,
    TICKETS,
    Watched,
    add_administrator,
    blob_folder,
    contents,
    export,
    fresh_system,
    places,
    restore,
    spend,
    study,
)
from tests.service.ingestion.ingesting import House, sample

_names = itertools.count(1)


@pytest_asyncio.fixture(scope="module")
async def house(
    database: Database,
    vectors: MilvusStore,
    tmp_path_factory: pytest.TempPathFactory,
    make_user: Callable[..., Caller],
    owner: psycopg.Connection,
) -> House:
    """A library of one lesson, with a student who has paid, asked and been quizzed."""
    folder = tmp_path_factory.mktemp("house")
    blob_folder(folder / "blobs")
    embedder = WordEmbedder()
    index = index_name(f"recovery-{next(_names)}", embedder.dimensions)
    await vectors.create_index(index, embedder.dimensions)
    await vectors.activate(index)
    made = House(database, vectors, index, embedder, folder, blob_url=(folder / "blobs").as_uri())
    with acting_as(make_user("teacher")):
        await made.ingest(sample("physique_newton.pdf"), "physique_newton.pdf")
    student = make_user("student", tokens=1_000)
    await spend(database, student, 100)
    study(owner, student, index)
    return made


@pytest.fixture
def area(house: House) -> Places:
    return places(house.blobs, house.blob_url)


@pytest.fixture
def place(area: Places, tmp_path: Path) -> Place:
    return area.to(str(tmp_path / "export"))


@dataclass
class System:
    """An empty system to import into."""

    addresses: Addresses
    target: Target

    @property
    def owner_url(self) -> str:
        return self.addresses.owner_url


@pytest_asyncio.fixture
async def empty(postgres: EmbeddedPostgres, vectors: MilvusStore, house: House) -> AsyncIterator[System]:
    with fresh_system(postgres) as found:
        add_administrator(found.owner_url)
        pool = Database(found.url, pool_size=4)
        await pool.open()
        try:
            yield System(found, Target(found.owner_url, pool, house.blobs, vectors))
        finally:
            await pool.close()


@pytest.mark.parametrize(("secret", "compress"), [("", False), ("", True), (KEY, True), (KEY, False)])
async def test_everything_comes_back_as_it_was(
    addresses: Addresses, house: House, place: Place, empty: System, secret: str, compress: bool
) -> None:
    before = contents(addresses.owner_url)
    assert [table for table in EXPORTED if not before[table]] == ["top_up"]
    exported = await export(addresses.owner_url, house.blobs, place, secret, compress=compress)
    imported = await restore(empty.target, place, secret)
    assert [check for check in imported.checks if not check.ok] == []
    after = contents(empty.owner_url)
    assert {table for table in EXPORTED if before[table] != after[table]} <= {"audit_event"}
    assert set(before["audit_event"]) <= set(after["audit_event"])
    assert exported.manifest.rows == sum(map(len, before.values())) + 1
    with acting_as(system()):
        assert (await WalletService(empty.target.database).reconcile()).head == exported.manifest.ledger.head


async def test_numbers_go_on_after_the_restored_ones(
    addresses: Addresses, house: House, place: Place, empty: System
) -> None:
    await export(addresses.owner_url, house.blobs, place)
    await restore(empty.target, place)
    with psycopg.connect(empty.owner_url, autocommit=True, options="-c search_path=bacmr") as owner:
        row = owner.execute(
            "INSERT INTO trace (request_id, correlation_id, user_id, method, story)"
            " VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'Ask', '{}')"
            " RETURNING id > (SELECT max(id) FROM trace)"
        ).fetchone()
    assert row == (True,)


async def test_restored_money_cannot_be_deleted(
    addresses: Addresses, house: House, place: Place, empty: System
) -> None:
    await export(addresses.owner_url, house.blobs, place)
    await restore(empty.target, place)
    with psycopg.connect(empty.owner_url, autocommit=True, options="-c search_path=bacmr") as owner:
        for table in ("wallet", "ledger_entry"):
            with pytest.raises(psycopg.errors.RestrictViolation):
                owner.execute(f"DELETE FROM {table}")


async def test_searches_find_the_restored_library(
    addresses: Addresses, house: House, place: Place, empty: System, vectors: MilvusStore
) -> None:
    await export(addresses.owner_url, house.blobs, place)
    await vectors.delete(house.index, sorted(await vectors.ids(house.index)))
    imported = await restore(empty.target, place)
    assert imported.vectors == await vectors.count(house.index) > 0
    with psycopg.connect(empty.owner_url, options="-c search_path=bacmr -c app.role=admin") as owner:
        found = owner.execute(
            "SELECT count(*) FROM search_chunks('{newton}', '', '', '', '', '{}', 100, 10)"
        ).fetchone()
    assert found
    assert found[0] > 0


async def test_search_terms_of_another_release_are_made_again_by_the_import(
    addresses: Addresses, house: House, place: Place, empty: System, owner: psycopg.Connection
) -> None:
    async def nobody_listens(renewed: int) -> None:
        pass

    before = contents(addresses.owner_url)["chunk"]
    owner.execute("UPDATE chunk SET terms = 'old', term_count = 9, analyser_version = 0")
    await export(addresses.owner_url, house.blobs, place)
    with acting_as(system()):
        assert await SearchTerms(house.database).renew(nobody_listens) == len(before)
    await restore(empty.target, place)
    assert contents(empty.owner_url)["chunk"] == before
    with psycopg.connect(empty.owner_url, options="-c search_path=bacmr") as restored:
        counted = "SELECT (SELECT sum(terms) FROM corpus_size) = (SELECT sum(term_count) FROM chunk)"
        assert restored.execute(counted).fetchone() == (True,)


def test_every_table_is_exported_or_left_out_for_a_reason(owner: psycopg.Connection) -> None:
    tables = {
        name
        for (name,) in owner.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'bacmr'::regnamespace AND relkind IN ('r', 'p')"
        )
    }
    assert tables == {*EXPORTED, *LEFT_OUT}
    assert all(LEFT_OUT.values())
    assert len(tables) == len(EXPORTED) + len(LEFT_OUT)


def test_a_table_comes_after_those_that_it_refers_to(owner: psycopg.Connection) -> None:
    references = owner.execute(
        "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint"
        " WHERE contype = 'f' AND connamespace = 'bacmr'::regnamespace AND conrelid <> confrelid"
    ).fetchall()
    places = {table: place for place, table in enumerate(EXPORTED)}
    assert [(a, b) for a, b in references if a in places and places[a] < places[b]] == []


def test_the_owner_sees_every_row_of_every_exported_table(owner: psycopg.Connection) -> None:
    blind = owner.execute(
        "SELECT relname FROM pg_class c WHERE relname = ANY (%s) AND relnamespace = 'bacmr'::regnamespace"
        " AND relrowsecurity AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid AND polpermissive"
        " AND polcmd = '*' AND polroles = ARRAY['bacmr_owner'::regrole::oid] AND pg_get_expr(polqual, polrelid) = 'true')",
        [list(EXPORTED)],
    ).fetchall()
    assert blind == []


async def test_an_export_is_one_moment_whatever_is_written_meanwhile(
    addresses: Addresses, house: House, place: Place, make_user: Callable[..., Caller], empty: System
) -> None:
    class Meddling:
        async def report(self, stage: str, done: int = 0, total: int = 0) -> None:
            make_user("student", tokens=10)

    made = await Exporter(addresses.owner_url, house.blobs, "", "1").export(Wish(uuid4()), place, Meddling())
    assert made.manifest.table("app_user").rows == made.manifest.table("wallet").rows
    imported = await restore(empty.target, place)
    assert imported.ok


def files(place: Place) -> dict[str, Path]:
    return {file.name: file for file in Path(place.location).iterdir()}


def all_files(place: Place) -> list[Path]:
    return [file for file in Path(place.location).rglob("*") if file.is_file()]


def test_only_its_owner_enters_the_folder_of_an_export(place: Place) -> None:
    assert Path(place.location).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("secret", ["", KEY])
@pytest.mark.parametrize(
    "damage",
    [
        lambda found: found["wallet.ndjson"].write_bytes(found["wallet.ndjson"].read_bytes()[:-40]),
        lambda found: found["chunk.ndjson"].write_bytes(found["chunk.ndjson"].read_bytes().replace(b"1", b"2", 1)),
        lambda found: found["rating.ndjson"].unlink(),
        lambda found: found["rating.ndjson"].write_bytes(b""),
        lambda found: found["quiz.ndjson"].write_bytes(found["rating.ndjson"].read_bytes()),
        lambda found: found["manifest.json"].unlink(),
        lambda found: found["manifest.json"].write_text("{"),
        lambda found: found["manifest.json"].write_text(found["manifest.json"].read_text().replace("1.2.3", "1.2.4")),
    ],
)
async def test_a_damaged_export_is_refused_before_anything_is_written(
    addresses: Addresses, house: House, place: Place, empty: System, secret: str, damage: Callable[[Any], None]
) -> None:
    await export(addresses.owner_url, house.blobs, place, secret)
    damage({name.removesuffix(".enc"): file for name, file in files(place).items()})
    before = contents(empty.owner_url)
    with pytest.raises(ExportInvalid):
        await restore(empty.target, place, secret)
    assert contents(empty.owner_url) == before


def forge(place: Place, change: Callable[[dict[str, Any]], None], table: str = "") -> None:
    """Change rows of a table, and a manifest so that every hash is right again."""
    found = files(place)
    body = json.loads(found["manifest.json"].read_text())
    body.pop("proof")
    if table:
        lines = [json.loads(line) for line in found[f"{table}.ndjson"].read_bytes().splitlines()]
        change(lines[-1])
        content = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
        found[f"{table}.ndjson"].write_bytes(content)
        entry = next(entry for entry in body["tables"] if entry["name"] == table)
        entry |= {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    else:
        change(body)
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    body["proof"] = {"sha256": hashlib.sha256(canonical).hexdigest()}
    found["manifest.json"].write_text(json.dumps(body))


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("ledger_entry", lambda row: row.update(amount_tokens=row["amount_tokens"] + 1)),
        ("wallet", lambda row: row.update(head_hash="\\x" + "11" * 32)),
        ("wallet", lambda row: row.update(sequence=row["sequence"] + 1)),
        ("", lambda body: body["ledger"].update(head="11" * 32)),
        ("", lambda body: body["ledger"]["accounts"].update({"platform:revenue": 1})),
        ("", lambda body: body.update(schema_revision="0099_later")),
        ("", lambda body: body.update(format=2)),
        ("", lambda body: body["tables"].pop()),
        ("", lambda body: body["tables"][1].update(rows=99)),
        ("", lambda body: body.pop("snapshot_at")),
    ],
)
async def test_a_forged_export_is_refused_even_with_right_hashes(
    addresses: Addresses, house: House, place: Place, empty: System, table: str, change: Callable[[Any], None]
) -> None:
    await export(addresses.owner_url, house.blobs, place)
    forge(place, change, table)
    before = contents(empty.owner_url)
    with pytest.raises(ExportInvalid):
        await restore(empty.target, place)
    assert contents(empty.owner_url) == before


@pytest.mark.parametrize("secret", ["", "another key"])
async def test_an_encrypted_export_opens_with_its_key_only(
    addresses: Addresses, house: House, place: Place, empty: System, secret: str
) -> None:
    await export(addresses.owner_url, house.blobs, place, KEY)
    with pytest.raises(ExportInvalid, match="BACMR_EXPORT_KEY"):
        await restore(empty.target, place, secret)


async def test_an_encrypted_export_tells_nothing_of_people(addresses: Addresses, house: House, place: Place) -> None:
    await export(addresses.owner_url, house.blobs, place, KEY, copy_files=True)
    everything = b"".join(file.read_bytes() for file in all_files(place))
    assert b"example.org" not in everything
    assert b"%PDF" not in everything
    assert KEY.encode() not in everything


async def test_a_system_with_anything_in_it_is_left_alone(
    addresses: Addresses, house: House, place: Place, vectors: MilvusStore, database: Database
) -> None:
    await export(addresses.owner_url, house.blobs, place)
    before = contents(addresses.owner_url)
    with pytest.raises(IllegalState) as refused:
        await restore(Target(addresses.owner_url, database, house.blobs, vectors), place)
    assert refused.value.metadata["table"] in EXPORTED
    assert contents(addresses.owner_url) == before


async def test_a_second_account_makes_a_system_not_empty(
    addresses: Addresses, house: House, place: Place, empty: System
) -> None:
    add_administrator(empty.owner_url, "second@example.org")
    await export(addresses.owner_url, house.blobs, place)
    with pytest.raises(IllegalState):
        await restore(empty.target, place)


async def test_an_administrator_who_has_spent_makes_a_system_not_empty(
    addresses: Addresses, house: House, place: Place, postgres: EmbeddedPostgres, vectors: MilvusStore
) -> None:
    await export(addresses.owner_url, house.blobs, place)
    with fresh_system(postgres) as found:
        admin = add_administrator(found.owner_url)
        pool = Database(found.url, pool_size=4)
        await pool.open()
        try:
            await spend(pool, admin, 10)
            with pytest.raises(IllegalState):
                await restore(Target(found.owner_url, pool, house.blobs, vectors), place)
        finally:
            await pool.close()


async def test_the_bootstrap_administrator_gives_way_to_one_with_the_same_address(
    addresses: Addresses, house: House, place: Place, empty: System, owner: psycopg.Connection
) -> None:
    email = owner.execute("SELECT email FROM app_user LIMIT 1").fetchone()
    await export(addresses.owner_url, house.blobs, place)
    with psycopg.connect(empty.owner_url, autocommit=True, options="-c search_path=bacmr") as other:
        other.execute("UPDATE app_user SET email = %s", email)
    await restore(empty.target, place)
    assert contents(empty.owner_url)["app_user"] == contents(addresses.owner_url)["app_user"]


async def test_the_same_request_imports_once(addresses: Addresses, house: House, place: Place, empty: System) -> None:
    await export(addresses.owner_url, house.blobs, place)
    request_id = uuid4()
    await restore(empty.target, place, request_id=request_id)
    again = await restore(empty.target, place, request_id=request_id)
    assert again.ok
    with pytest.raises(IllegalState):
        await restore(empty.target, place)


async def test_a_place_that_holds_an_export_is_never_written_over(
    addresses: Addresses, house: House, place: Place
) -> None:
    await export(addresses.owner_url, house.blobs, place)
    with pytest.raises(AlreadyExists):
        await export(addresses.owner_url, house.blobs, place)


async def test_a_failed_export_leaves_nothing(addresses: Addresses, house: House, place: Place) -> None:
    class Stopping:
        async def report(self, stage: str, done: int = 0, total: int = 0) -> None:
            if stage.endswith("chunk"):
                raise StoreUnavailable(store="test")

    with pytest.raises(StoreUnavailable):
        await Exporter(addresses.owner_url, house.blobs, "", "1").export(Wish(uuid4()), place, Stopping())
    assert files(place) == {}


async def test_copied_files_come_back_into_an_empty_store(
    addresses: Addresses, house: House, place: Place, empty: System, tmp_path: Path
) -> None:
    await export(addresses.owner_url, house.blobs, place, KEY, copy_files=True)
    blobs = blob_folder(tmp_path / "new")
    target = Target(empty.owner_url, empty.target.database, blobs, empty.target.vectors)
    imported = await restore(target, place, KEY)
    assert next(check for check in imported.checks if check.name == "files_are_there").ok
    with acting_as(system()):
        (document,) = [document async for document in _documents(empty.target.database)]
    assert await blobs.get_bytes(document) == sample("physique_newton.pdf")


async def _documents(database: Database) -> AsyncIterator[str]:
    async with database.transaction() as connection:
        for key in (await connection.execute(text("SELECT blob_key FROM document"))).scalars():
            yield key


async def test_files_that_are_nowhere_are_told_and_hold_nothing_up(
    addresses: Addresses, house: House, place: Place, empty: System, tmp_path: Path
) -> None:
    await export(addresses.owner_url, house.blobs, place)
    target = Target(empty.owner_url, empty.target.database, blob_folder(tmp_path / "new"), empty.target.vectors)
    imported = await restore(target, place)
    assert [check.name for check in imported.checks if not check.ok] == ["files_are_there"]


async def test_a_login_that_is_not_the_owner_is_told_which_setting_it_needs(
    addresses: Addresses, house: House, place: Place
) -> None:
    with pytest.raises(IllegalState, match="BACMR_DATABASE_OWNER_URL"):
        await export(addresses.url, house.blobs, place)


@pytest.fixture
def migrator(postgres: EmbeddedPostgres, owner: psycopg.Connection, addresses: Addresses) -> Iterator[str]:
    """The address of an owner that is no superuser, as a managed PostgreSQL has one."""
    owner.execute("CREATE ROLE plain_migrator LOGIN PASSWORD 'x'")
    owner.execute("GRANT bacmr_owner, bacmr_app TO plain_migrator")
    connection = postgres.connection
    url = addresses.owner_url.replace(connection.admin_password, "x").replace("bacmr_admin", "plain_migrator")
    yield url
    owner.execute("DROP ROLE plain_migrator")


async def test_an_owner_that_is_no_superuser_exports_the_same(
    addresses: Addresses, house: House, place: Place, area: Places, tmp_path: Path, migrator: str
) -> None:
    mine = await export(addresses.owner_url, house.blobs, place)
    theirs = await export(migrator, house.blobs, area.to(str(tmp_path / "theirs")))
    assert [table.sha256 for table in mine.manifest.tables] == [table.sha256 for table in theirs.manifest.tables]


def test_the_manifest_names_what_the_contract_promises(addresses: Addresses) -> None:
    fields = manifests.Manifest.__dataclass_fields__.keys()
    assert {"tables", "schema_revision", "ledger", "snapshot_at", "created_at", "server_version"} <= fields


@pytest.mark.slow
async def test_ten_times_the_rows_take_no_more_memory(
    postgres: EmbeddedPostgres, house: House, tmp_path: Path, area: Places, empty: System
) -> None:
    grown = []
    for rows in (6_000, 60_000):
        with fresh_system(postgres) as large:
            admin = add_administrator(large.owner_url)
            with psycopg.connect(large.owner_url, autocommit=True, options="-c search_path=bacmr") as owner:
                study(owner, admin, house.index)
                owner.execute(
                    "INSERT INTO answer_event SELECT id, n, user_id, to_json(repeat(md5(n::text), 100)), now()"
                    " FROM answer, generate_series(2, %s) AS n",
                    [rows],
                )
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            place = area.to(str(tmp_path / str(rows)))
            exported = await export(large.owner_url, house.blobs, place, KEY)
            if rows == 60_000:
                await restore(empty.target, place, KEY)
            grown.append((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
    assert exported.manifest.table("answer_event").size_bytes > 190_000_000
    assert grown[1] < 80_000_000


async def test_the_weekly_export_is_whole_and_only_old_weekly_ones_are_deleted(
    addresses: Addresses, house: House, empty: System, tmp_path: Path
) -> None:
    blobs = blob_folder(tmp_path / "area")
    area = places(blobs, (tmp_path / "area").as_uri())
    for name in ("20250101_000000-by-hand", *(f"2026010{day}_030000{SCHEDULED}" for day in range(1, KEPT_EXPORTS + 1))):
        await blobs.put_bytes(f"exports/{name}/manifest.json", b"{}")
        await blobs.put_bytes(f"exports/{name}/wallet.ndjson", b"")
    await blobs.put_bytes(f"exports/20270101_030000{SCHEDULED}/wallet.ndjson", b"half an export")
    exporter = Exporter(addresses.owner_url, blob_folder(Path(house.blob_url.removeprefix("file://"))), KEY, "1")
    await Exports(exporter, area).export_scheduled()
    names = await area.names()
    assert "20250101_000000-by-hand" in names
    assert f"20260101_030000{SCHEDULED}" not in names
    assert len(names) == KEPT_EXPORTS + 1
    assert all(names.values())
    assert [found.key async for found in blobs.list(f"exports/20260101_030000{SCHEDULED}")] == []
    newest = await area.newest()
    assert newest
    assert (await restore(empty.target, area.existing(newest.location), KEY)).ok


async def test_an_export_that_was_asked_for_twice_is_made_once(
    addresses: Addresses, house: House, place: Place
) -> None:
    wish, exporter = Wish(uuid4()), Exporter(addresses.owner_url, house.blobs, KEY, "1")
    first = await exporter.export(wish, place, Watched())
    assert await exporter.export(wish, place, Watched()) == first


async def test_copies_that_were_changed_are_never_written(
    addresses: Addresses, house: House, place: Place, empty: System, tmp_path: Path
) -> None:
    await export(addresses.owner_url, house.blobs, place, copy_files=True)
    (copy,) = (file for file in all_files(place) if file.parent.name == "files")
    copy.write_bytes(copy.read_bytes()[:-1])
    blobs = blob_folder(tmp_path / "new")
    target = Target(empty.owner_url, empty.target.database, blobs, empty.target.vectors)
    with pytest.raises(ExportInvalid):
        await restore(target, place)
    with pytest.raises(ExportInvalid):
        await Importer(target).restore_files(await open_export(place, ""), Watched())
    assert [found.key async for found in blobs.list("files")] == []


@pytest.mark.parametrize("secret", ["", KEY])
async def test_an_export_goes_to_a_bucket_and_comes_back_by_its_location(
    addresses: Addresses, house: House, empty: System, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    for setting, value in CREDENTIALS.items():
        monkeypatch.setenv(setting, value)
    name = f"20261122-{'encrypted' if secret else 'plain'}"
    with serving() as url:
        area = places(open_blobs(url, TICKETS), url)
        made = await export(addresses.owner_url, house.blobs, area.fresh(name), secret, copy_files=True)
        assert made.location.startswith("s3://")
        imported = await restore(empty.target, area.existing(made.location), secret)
        assert imported.ok
        assert (await area.names())[name]
