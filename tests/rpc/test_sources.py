"""Web sources over a real channel: kept by admins, synced by the worker, told page by page."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from bacmr.v1 import admin_pb2 as pb
from bacmr.v1.admin_pb2_grpc import AdminServiceStub
from server import caller
from server.admin.audit import Audit
from server.admin.operations import RUN_OPERATION, Operations
from server.admin.servicer.sources import SourcesServicing, sync_message
from server.admin.store.syncs import SYNC_SOURCE
from server.admin.syncs import SyncRunner, Syncs
from server.caller import Caller
from server.database.once import Once
from server.database.pool import Database
from server.ingestion.extraction.page import Limits
from server.ingestion.extraction.worker import Extraction
from server.ingestion.scratch import Scratch
from server.ingestion.sources.service import SourceService
from server.ingestion.sources.sync import SourceSync
from server.jobs.queue import OPERATIONS_QUEUE, JobQueue
from server.jobs.task import Arguments, Task
from server.jobs.worker import Worker
from server.vectors.filters import index_name
from server.vectors.milvus import MilvusStore
from tests.conftest import Addresses
from tests.fakes import WordEmbedder
from tests.rpc.served import Edge, People, Who, refusal
from tests.service.ingestion.ingesting import House
from tests.service.ingestion.schoolsite import Site, serving

GOT = {"": 1, "newton": 1, "photo": 1, "secret": 4, "gone": 5}
"""The verdicts on the school's pages by path: three ingested, one rejected, one failed."""


class Sources(SourcesServicing):
    """The part of AdminService that is tested here."""

    def __init__(self, sources: SourceService, syncs: Syncs) -> None:
        self._sources = sources
        self._syncs = syncs


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    async with serving() as school:
        yield school


@pytest_asyncio.fixture
async def house(database: Database, milvus_uri: str, tmp_path: Path) -> AsyncIterator[House]:
    store = MilvusStore(milvus_uri, timeout_seconds=60)
    embedder = WordEmbedder()
    index = index_name("sources-rpc", embedder.dimensions)
    await store.create_index(index, embedder.dimensions)
    await store.activate(index)
    yield House(database, store, index, embedder, tmp_path)
    await store.close()


class Gate:
    """Stands in for the waits between two requests to a site; closed, it keeps a sync waiting."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.reached = asyncio.Event()

    async def pause(self, seconds: float) -> None:
        self.reached.set()
        await self.open.wait()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def sources(database: Database, site: Site) -> SourceService:
    return SourceService(database, Once(database), Audit(database).record, site.reach)


@pytest.fixture
def operations(database: Database, house: House, sources: SourceService, site: Site, gate: Gate) -> Operations:
    sync = SourceSync(
        database,
        house.corpus,
        house.blobs,
        house.service,
        Extraction(Limits()),
        reach=site.reach,
        scratch=Scratch(house.scratch),
        pause=gate.pause,
    )
    runners = {SYNC_SOURCE: SyncRunner(database, sources, sync)}
    return Operations(database, Once(database), Audit(database), JobQueue(database), runners)


@pytest.fixture
def syncs(database: Database, sources: SourceService, operations: Operations) -> Syncs:
    return Syncs(database, Once(database), sources, operations)


@pytest_asyncio.fixture
async def worker(database: Database, addresses: Addresses, operations: Operations) -> AsyncIterator[None]:
    """The real worker with the task that runs operations."""

    async def run(operation_id: str) -> None:
        await operations.run(UUID(operation_id))

    async def given_up(arguments: Arguments, error: BaseException) -> None:
        await operations.give_up(UUID(arguments["operation_id"]), error)

    tasks = [Task(RUN_OPERATION, run, given_up=given_up)]
    working = asyncio.create_task(
        Worker(database, addresses.url, tasks, queue=OPERATIONS_QUEUE, poll_seconds=0.2, stop_seconds=1).work()
    )
    yield
    while not working.done():
        working.cancel()
        await asyncio.wait({working}, timeout=5)


@pytest_asyncio.fixture
async def edge(serve: Callable[..., Awaitable[Edge]], sources: SourceService, syncs: Syncs) -> Edge:
    return await serve(AdminService=Sources(sources, syncs))


@pytest.fixture
def stub(edge: Edge) -> Any:
    return AdminServiceStub(edge.channel)


@pytest.fixture
def known(people: People, make_user: Callable[..., Caller]) -> Callable[[str], Who]:
    """A function that makes a person with an account and a token."""

    def make(role: str) -> Who:
        account = make_user(role)
        assert account.user_id is not None
        who = Who(token=f"token-{uuid4()}", user_id=account.user_id, role=account.role)
        people.known[who.token] = who
        return who

    return make


@pytest_asyncio.fixture
async def admin(known: Callable[[str], Who], owner: psycopg.Connection) -> Who:
    await asyncio.to_thread(owner.execute, "TRUNCATE source, source_page, operation CASCADE")
    return known("admin")


def described(site: Site, **fields: Any) -> pb.Source:
    plain = {"name": "Lycée", "start_url": f"{site.address}/", "namespace": f"web-{uuid4().hex[:8]}", "max_pages": 50}
    return pb.Source(**(plain | fields))


async def created(stub: Any, who: Who, source: pb.Source) -> pb.Source:
    request = pb.CreateSourceRequest(source=source, request_id=str(uuid4()))
    return (await stub.CreateSource(request, metadata=who.metadata)).source


async def updated(stub: Any, who: Who, source: pb.Source, *paths: str) -> pb.Source:
    request = pb.UpdateSourceRequest(source=source, update_mask=FieldMask(paths=paths), request_id=str(uuid4()))
    return (await stub.UpdateSource(request, metadata=who.metadata)).source


def sync(stub: Any, who: Who, source: pb.Source, request_id: str = "") -> Any:
    request = pb.SyncSourceRequest(source_id=source.id, request_id=request_id or str(uuid4()))
    return stub.SyncSource(request, metadata=who.metadata, timeout=60)


async def listed(stub: Any, who: Who) -> list[pb.Source]:
    return list((await stub.ListSources(pb.ListSourcesRequest(), metadata=who.metadata)).sources)


async def events_of(call: Any) -> list[pb.SyncEvent]:
    return [event async for event in call]


def verdicts(events: list[pb.SyncEvent]) -> dict[str, int]:
    return {event.url.removeprefix("http://").partition("/")[2]: event.verdict for event in events if not event.done}


async def test_a_sync_tells_each_page_and_ends_with_a_summary(
    stub: Any, admin: Who, site: Site, worker: None, house: House
) -> None:
    source = await created(stub, admin, described(site))
    events = await events_of(sync(stub, admin, source))
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert verdicts(events) == GOT
    assert [event.done for event in events] == [False] * 5 + [True]
    assert (events[-1].pages_fetched, events[-1].pages_ingested) == (5, 3)
    assert events[-1].reason == "5 pages: 3 ingested, 1 rejected, 1 failed"
    [after] = await listed(stub, admin)
    assert (after.last_pages, after.last_outcome) == (5, events[-1].reason)
    assert after.HasField("last_synced_at")


async def test_a_second_sync_of_an_unchanged_site_downloads_and_ingests_nothing(
    stub: Any, admin: Who, site: Site, worker: None, house: House
) -> None:
    source = await created(stub, admin, described(site))
    first = await events_of(sync(stub, admin, source))
    site.bodies.clear()
    second = await events_of(sync(stub, admin, source))
    assert (first[-1].pages_ingested, second[-1].pages_ingested, site.bodies) == (3, 0, [])
    assert {path: second_verdict for path, second_verdict in verdicts(second).items() if path in ("", "newton")} == {
        "": pb.PAGE_VERDICT_UNCHANGED,
        "newton": pb.PAGE_VERDICT_UNCHANGED,
    }


async def test_the_same_request_shows_the_first_syncs_events_and_fetches_nothing(
    stub: Any, admin: Who, site: Site, worker: None
) -> None:
    source, request_id = await created(stub, admin, described(site)), str(uuid4())
    first = await events_of(sync(stub, admin, source, request_id))
    site.bodies.clear()
    site.pages["/newton"] = ("changed", "text/plain")
    await updated(stub, admin, pb.Source(id=source.id), "enabled")
    again = await events_of(sync(stub, admin, source, request_id))
    assert (again, site.bodies) == (first, [])


async def test_a_dropped_call_does_not_stop_the_sync(
    stub: Any, admin: Who, site: Site, worker: None, gate: Gate
) -> None:
    source, request_id = await created(stub, admin, described(site)), str(uuid4())
    gate.open.clear()
    call = sync(stub, admin, source, request_id)
    async with asyncio.timeout(30):
        reading = asyncio.create_task(call.read())
        await gate.reached.wait()
        call.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    gate.open.set()
    events = await events_of(sync(stub, admin, source, request_id))
    assert verdicts(events) == GOT


async def test_a_sync_that_waits_for_its_site_shows_signs_of_life(
    stub: Any, admin: Who, syncs: Syncs, site: Site, worker: None, gate: Gate
) -> None:
    source = await created(stub, admin, described(site))
    gate.open.clear()
    with caller.acting_as(caller.system()):
        operation_id = await syncs.start(UUID(source.id), uuid4())
        watching = syncs.watch(operation_id, silent_seconds=0.0)
        sign = await anext(watching)
        gate.open.set()
        messages = [sync_message(event, operation_id) for event in [sign, *[event async for event in watching]]]
    assert (messages[0].url, messages[0].done, messages[0].pages_fetched) == ("", False, 0)
    assert [message.sequence for message in messages] == list(range(1, len(messages) + 1))
    assert sum(bool(message.url) for message in messages) == messages[-1].pages_fetched == len(GOT)


async def test_a_source_is_synced_once_at_a_time(stub: Any, admin: Who, site: Site, worker: None, gate: Gate) -> None:
    source = await created(stub, admin, described(site))
    gate.open.clear()
    reading = asyncio.create_task(events_of(sync(stub, admin, source)))
    async with asyncio.timeout(30):
        await gate.reached.wait()
    second = await refusal(sync(stub, admin, source))
    gate.open.set()
    assert second.code is grpc.StatusCode.ABORTED
    assert (await reading)[-1].done


async def test_a_source_that_is_paused_or_deleted_ends_its_sync(
    stub: Any, admin: Who, site: Site, worker: None, gate: Gate, owner: psycopg.Connection
) -> None:
    source = await created(stub, admin, described(site))
    gate.open.clear()
    reading = asyncio.create_task(events_of(sync(stub, admin, source)))
    async with asyncio.timeout(30):
        await gate.reached.wait()
    await stub.DeleteSource(
        pb.DeleteSourceRequest(source_id=source.id, request_id=str(uuid4())), metadata=admin.metadata
    )
    gate.open.set()
    events = await reading
    assert [event.done for event in events] == [False, True]
    assert "paused or deleted" in events[-1].reason


async def test_a_sync_that_ran_before_a_crash_goes_on_without_telling_a_page_twice(
    admin: Who, site: Site, sources: SourceService, syncs: Syncs, operations: Operations, stub: Any, gate: Gate
) -> None:
    source = await created(stub, admin, described(site))
    with caller.acting_as(caller.system()):
        operation_id = await syncs.start(UUID(source.id), uuid4())
        gate.open.clear()
        crashed = asyncio.create_task(operations.run(operation_id))
        await gate.reached.wait()
        gate.reached.clear()
        gate.open.set()
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            async for event in syncs.watch(operation_id):
                if event.sequence == 2:
                    break
        crashed.cancel()
        await asyncio.gather(crashed, return_exceptions=True)
        await operations.run(operation_id)
        events = [event async for event in syncs.watch(operation_id)]
    urls = [event.page.url for event in events if event.page]
    assert (len(urls), len(set(urls))) == (5, 5)
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5, 6]


async def test_scheduled_sources_are_synced_when_they_are_due_one_after_another(
    admin: Who, site: Site, stub: Any, syncs: Syncs, operations: Operations, owner: psycopg.Connection
) -> None:
    hourly = Duration(seconds=3600)
    await created(stub, admin, described(site, sync_every=hourly))
    await created(stub, admin, described(site, start_url=f"{site.address}/newton", sync_every=hourly))
    await created(stub, admin, described(site, start_url=f"{site.address}/photo"))
    with caller.acting_as(caller.system()):
        assert (await syncs.start_due(), await syncs.start_due()) == (1, 0)
        for _ in range(2):
            row = owner.execute("SELECT id FROM operation WHERE state = 'pending'").fetchone()
            assert row is not None
            await operations.run(row[0])
            await syncs.start_due()
        assert await syncs.start_due() == 0
    [never, later, first] = await listed(stub, admin)
    assert [bool(source.last_outcome) for source in (first, later, never)] == [True, True, False]
    owner.execute("UPDATE source SET last_synced_at = now() - interval '1 hour'")
    with caller.acting_as(caller.system()):
        assert await syncs.start_due() == 1


async def test_a_due_source_whose_host_is_no_longer_allowed_says_so(
    admin: Who, site: Site, stub: Any, syncs: Syncs, owner: psycopg.Connection
) -> None:
    await created(stub, admin, described(site, sync_every=Duration(seconds=60)))
    owner.execute("UPDATE source SET start_url = 'http://evil.example/'")
    with caller.acting_as(caller.system()):
        assert await syncs.start_due() == 0
    [source] = await listed(stub, admin)
    assert "allowed hosts" in source.last_outcome


async def test_a_site_that_cannot_be_reached_fails_with_words_for_an_operator(
    stub: Any, admin: Who, site: Site, worker: None
) -> None:
    source = await created(stub, admin, described(site))
    site.robots = (503, "")
    events = await events_of(sync(stub, admin, source))
    assert [(event.verdict, event.done) for event in events] == [(pb.PAGE_VERDICT_REJECTED, False), (0, True)]
    assert "robots.txt" in events[0].reason


async def test_an_update_changes_the_named_fields_only(stub: Any, admin: Who, site: Site) -> None:
    source = await created(stub, admin, described(site, subject="math", sync_every=Duration(seconds=3600)))
    changed = await updated(stub, admin, pb.Source(id=source.id, name="Autre", subject="x"), "name")
    assert (changed.name, changed.subject, changed.start_url) == ("Autre", "math", source.start_url)
    on_demand = await updated(stub, admin, pb.Source(id=source.id), "sync_every")
    assert not on_demand.HasField("sync_every")
    assert on_demand.enabled


async def test_pages_follow_a_source_to_its_new_namespace(
    stub: Any, admin: Who, site: Site, worker: None, house: House
) -> None:
    source = await created(stub, admin, described(site))
    first = await events_of(sync(stub, admin, source))
    await house.run_queued()
    await updated(stub, admin, pb.Source(id=source.id, namespace="moved-there"), "namespace")
    second = await events_of(sync(stub, admin, source))
    await house.run_queued()
    assert {event.document_id for event in second} == {event.document_id for event in first}
    with caller.acting_as(caller.system()):
        assert (await house.corpus.namespaces())["moved-there"] > 0
        assert source.namespace not in await house.corpus.namespaces()


async def test_the_same_request_makes_one_source(stub: Any, admin: Who, site: Site) -> None:
    request = pb.CreateSourceRequest(source=described(site), request_id=str(uuid4()))
    first = await stub.CreateSource(request, metadata=admin.metadata)
    assert await stub.CreateSource(request, metadata=admin.metadata) == first
    assert len(await listed(stub, admin)) == 1
    other = pb.CreateSourceRequest(source=described(site, name="x"), request_id=request.request_id)
    assert (await refusal(stub.CreateSource(other, metadata=admin.metadata))).reason == "REQUEST_ID_REUSED"


async def test_sources_are_listed_page_by_page(stub: Any, admin: Who, site: Site) -> None:
    made = [await created(stub, admin, described(site, start_url=f"{site.address}/{n}")) for n in range(3)]
    request = pb.ListSourcesRequest(page_size=2)
    first = await stub.ListSources(request, metadata=admin.metadata)
    request.page_token = first.next_page_token
    second = await stub.ListSources(request, metadata=admin.metadata)
    assert [source.id for source in (*first.sources, *second.sources)] == [source.id for source in reversed(made)]


async def test_every_change_is_audited(stub: Any, admin: Who, site: Site, owner: psycopg.Connection) -> None:
    source = await created(stub, admin, described(site))
    await updated(stub, admin, pb.Source(id=source.id, name="Autre"), "name")
    await stub.DeleteSource(
        pb.DeleteSourceRequest(source_id=source.id, request_id=str(uuid4())), metadata=admin.metadata
    )
    rows = owner.execute(
        "SELECT action, actor_id, before ->> 'name', after ->> 'name' FROM audit_event WHERE object = %s"
        " ORDER BY created_at",
        [f"source/{source.id}"],
    ).fetchall()
    who = admin.user_id
    assert rows == [
        ("CreateSource", who, None, "Lycée"),
        ("UpdateSource", who, "Lycée", "Autre"),
        ("DeleteSource", who, "Autre", None),
    ]


async def test_a_deleted_source_is_forgotten_and_its_documents_stay(
    stub: Any, admin: Who, site: Site, worker: None, house: House, owner: psycopg.Connection
) -> None:
    source = await created(stub, admin, described(site))
    events = await events_of(sync(stub, admin, source))
    await stub.DeleteSource(
        pb.DeleteSourceRequest(source_id=source.id, request_id=str(uuid4())), metadata=admin.metadata
    )
    assert await listed(stub, admin) == []
    assert owner.execute("SELECT count(*) FROM source_page").fetchone() == (0,)
    kept = owner.execute("SELECT count(*) FROM document WHERE id = %s", [events[0].document_id]).fetchone()
    assert kept == (1,)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"start_url": "ftp://127.0.0.1/"}, "source.start_url"),
        ({"start_url": "file:///etc/passwd"}, "source.start_url"),
        ({"start_url": "http://user:secret@127.0.0.1/"}, "source.start_url"),
        ({"start_url": ""}, "source.start_url"),
        ({"name": " "}, "source.name"),
        ({"namespace": "Grade 12"}, "source.namespace"),
        ({"max_pages": -1}, "source.max_pages"),
        ({"max_pages": 10_001}, "source.max_pages"),
        ({"sync_every": Duration(seconds=1)}, "source.sync_every"),
    ],
)
async def test_a_source_that_makes_no_sense_is_refused(
    stub: Any, admin: Who, site: Site, fields: dict[str, Any], field: str
) -> None:
    request = pb.CreateSourceRequest(source=described(site, **fields), request_id=str(uuid4()))
    refused = await refusal(stub.CreateSource(request, metadata=admin.metadata))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in refused.details["BadRequest"].field_violations] == [field]  # type: ignore[attr-defined]


async def test_the_name_of_a_source_is_one_line_that_turns_nothing_around(stub: Any, admin: Who, site: Site) -> None:
    source = await created(stub, admin, described(site, name="Lycée\u202e de\n Nouakchott\u2069"))
    renamed = await updated(stub, admin, pb.Source(id=source.id, name="ثانوية\u061c نواكشوط"), "name")
    assert (source.name, renamed.name) == ("Lycée de Nouakchott", "ثانوية نواكشوط")


@pytest.mark.parametrize(
    "address",
    [
        "http://evil.example/",
        "http://127.0.0.1:1/",
        "http://127.0.0.1/",
        "http://169.254.169.254/",
        "http://cours.example:22/",
        "https://www.cours.example:8443/",
        "http://cours.example:0/",
    ],
)
async def test_only_places_that_an_operator_allowed_become_sources(
    stub: Any, admin: Who, site: Site, address: str
) -> None:
    request = pb.CreateSourceRequest(source=described(site, start_url=address), request_id=str(uuid4()))
    refused = await refusal(stub.CreateSource(request, metadata=admin.metadata))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SOURCE_REFUSED")


async def test_two_sources_do_not_start_at_one_address(stub: Any, admin: Who, site: Site) -> None:
    await created(stub, admin, described(site))
    request = pb.CreateSourceRequest(source=described(site), request_id=str(uuid4()))
    assert (await refusal(stub.CreateSource(request, metadata=admin.metadata))).reason == "ALREADY_EXISTS"


async def test_a_paused_source_is_not_synced(stub: Any, admin: Who, site: Site) -> None:
    source = await created(stub, admin, described(site))
    await updated(stub, admin, pb.Source(id=source.id, enabled=False), "enabled")
    refused = await refusal(sync(stub, admin, source))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ILLEGAL_STATE")


@pytest.mark.parametrize("paths", [["nothing"], ["name", "id"], ["last_outcome"]])
async def test_a_mask_that_names_no_field_of_ours_is_refused(
    stub: Any, admin: Who, site: Site, paths: list[str]
) -> None:
    source = await created(stub, admin, described(site))
    request = pb.UpdateSourceRequest(
        source=pb.Source(id=source.id), update_mask=FieldMask(paths=paths), request_id=str(uuid4())
    )
    assert (await refusal(stub.UpdateSource(request, metadata=admin.metadata))).code is (
        grpc.StatusCode.INVALID_ARGUMENT
    )


async def test_a_source_that_is_not_there_is_not_found(stub: Any, admin: Who) -> None:
    nobody, request_id = str(uuid4()), str(uuid4())
    mask = FieldMask(paths=["name"])
    calls = [
        stub.SyncSource(pb.SyncSourceRequest(source_id=nobody, request_id=request_id), metadata=admin.metadata),
        stub.DeleteSource(pb.DeleteSourceRequest(source_id=nobody, request_id=request_id), metadata=admin.metadata),
        stub.UpdateSource(
            pb.UpdateSourceRequest(source=pb.Source(id=nobody, name="x"), update_mask=mask, request_id=request_id),
            metadata=admin.metadata,
        ),
    ]
    for call in calls:
        assert (await refusal(call)).code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("role", ["student", "teacher", "service"])
async def test_only_admins_keep_sources(stub: Any, site: Site, known: Callable[[str], Who], role: str) -> None:
    who = known(role)
    source = pb.Source(id=str(uuid4()))
    calls = [
        stub.ListSources(pb.ListSourcesRequest(), metadata=who.metadata),
        stub.CreateSource(
            pb.CreateSourceRequest(source=described(site), request_id=str(uuid4())), metadata=who.metadata
        ),
        sync(stub, who, source),
    ]
    for call in calls:
        assert (await refusal(call)).code is grpc.StatusCode.PERMISSION_DENIED


async def test_nobody_lists_sources_without_a_token(stub: Any) -> None:
    assert (await refusal(stub.ListSources(pb.ListSourcesRequest()))).code is grpc.StatusCode.UNAUTHENTICATED
