"""A reindex builds beside the searched index, a switch is one step for every process, and there is a way back."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest

from server import caller
from server.admin.operation import OperationState
from server.caller import Caller
from server.corpus.index import IndexState
from server.models.port import ProviderFailure, Purpose
from server.refusal import Conflict, IllegalState, Invalid, ModelUnavailable, NotFound, RequestIdReused
from tests.service.indexes.reindexing import EVERYTHING, NEW, OLD, IndexHouse, lesson, succeeded
from tests.service.ingestion.ingesting import MATHS, Placement


async def test_a_reindex_fills_another_index_and_leaves_the_searched_one(house: IndexHouse, admin: Caller) -> None:
    result = succeeded(await house.reindex(admin))
    chunks = await house.all_chunks()
    assert await house.vectors.ids(result["index"]) == chunks == await house.vectors.ids(house.index)
    assert (result["expected_count"], result["actual_count"]) == (len(chunks), len(chunks))
    assert (await house.read(result["index"])).state is IndexState.READY
    live = await house.spaces.live()
    assert live is not None
    assert (live.index, live.embedder.name) == (house.index, OLD)


async def test_the_same_text_is_not_embedded_twice(house: IndexHouse, admin: Caller) -> None:
    first = succeeded(await house.reindex(admin))
    asked = house.words[NEW].asked["embed"]
    with caller.acting_as(admin):
        await house.indexes.activate(first["index"], uuid4())
    second = succeeded(await house.reindex(admin))
    assert second["index"] != first["index"]
    assert await house.vectors.ids(second["index"]) == await house.all_chunks()
    assert house.words[NEW].asked["embed"] <= asked + 4  # the comparison's questions, and the look before the switch


async def test_what_the_store_lost_comes_back_and_what_is_not_ours_to_find_goes(
    house: IndexHouse, admin: Caller
) -> None:
    index = succeeded(await house.reindex(admin))["index"]
    chunks = await house.all_chunks()
    await house.vectors.delete(index, sorted(chunks)[:3])
    with caller.acting_as(caller.system()):
        (chunk, *_) = (await house.corpus.chunks([max(chunks)])).values()
    await house.put(index, replace(chunk, id="f" * 64))
    assert succeeded(await house.reindex(admin))["index"] == index
    assert await house.vectors.ids(index) == chunks


async def test_a_sample_compares_what_both_indexes_find(house: IndexHouse, admin: Caller) -> None:
    result = succeeded(await house.reindex(admin))
    assert result["sample_queries"] > 0
    assert 0.5 < result["sample_recall"] <= 1
    assert (await house.read(result["index"])).sample_recall == result["sample_recall"]


async def test_a_switch_is_followed_by_every_process_with_the_new_model(house: IndexHouse, admin: Caller) -> None:
    others = [house.process(), house.process()]
    before = {(await other.live()).index for other in others}
    result = succeeded(await house.reindex(admin))
    with caller.acting_as(admin):
        status = await house.indexes.activate(result["index"], uuid4())
    async with asyncio.timeout(10):
        for other in others:
            while (live := await other.live()).index != result["index"]:  # noqa: ASYNC110 - it looks by its own clock
                await asyncio.sleep(0.02)
            assert live.embedder.name == NEW
    assert (status.index.state, before) == (IndexState.ACTIVE, {house.index})
    assert await house.vectors.live() == result["index"]
    assert (await house.read(house.index)).state is IndexState.RETIRED
    text = lesson(3).decode()
    found = [await house.found(house.vectors, other, text) for other in others]
    with caller.acting_as(caller.system()):
        chunks = await house.corpus.chunks(found)
    assert {chunk.text for chunk in chunks.values()} == {text}


async def test_a_search_that_began_before_the_switch_ends_in_the_index_before(house: IndexHouse, admin: Caller) -> None:
    begun = await house.spaces.live()
    result = succeeded(await house.reindex(admin))
    with caller.acting_as(admin):
        await house.indexes.activate(result["index"], uuid4())
    (vector,) = await begun.embedder.embed(["photosynthèse"], Purpose.QUERY)
    assert await house.vectors.search(begun.index, vector, 5, EVERYTHING)


async def test_what_is_ingested_while_an_index_is_built_is_in_both(house: IndexHouse, admin: Caller) -> None:
    with caller.acting_as(admin):
        started = await house.indexes.start("", NEW, uuid4())
    runner = house.reindexing(embedder=Doing(house.words[NEW], lambda: house.ingest(lesson(77), "new.txt")))
    result = succeeded(await house.run(started.id, runner))
    await house.ingest(lesson(78), "later.txt")
    chunks = await house.all_chunks()
    assert await house.vectors.ids(result["index"]) == chunks == await house.vectors.ids(house.index)
    with caller.acting_as(admin):
        assert (await house.indexes.activate(result["index"], uuid4())).actual_count == len(chunks)


async def test_what_is_deleted_while_an_index_is_built_is_in_neither(house: IndexHouse, admin: Caller) -> None:
    job = await house.ingest(lesson(80), "gone.txt")

    async def delete() -> None:
        await house.service.delete_document(job.document_id, uuid4())

    with caller.acting_as(admin):
        started = await house.indexes.start("", NEW, uuid4())
    result = succeeded(
        await house.run(started.id, house.reindexing(embedder=Doing(house.words[NEW], delete, "Leçon 80.")))
    )
    chunks = await house.all_chunks()
    assert len(chunks) == 10
    assert await house.vectors.ids(result["index"]) == chunks == await house.vectors.ids(house.index)


async def test_what_changes_while_an_index_is_built_is_found_by_its_new_text(house: IndexHouse, admin: Caller) -> None:
    job = await house.ingest(lesson(82), "changed.txt")

    async def change() -> None:
        await house.change(job.document_id, lesson(83))
        await house.service.create_job(job.document_id, MATHS, uuid4())
        await house.run_queued()

    with caller.acting_as(admin):
        started = await house.indexes.start("", NEW, uuid4())
    runner = house.reindexing(embedder=Doing(house.words[NEW], change, "Leçon 82."))
    result = succeeded(await house.run(started.id, runner))
    (changed,) = await house.chunk_ids(job.document_id)
    (vector,) = await house.words[NEW].embed([lesson(83).decode()], Purpose.QUERY)
    best = (await house.vectors.search(result["index"], vector, 1, EVERYTHING))[0]
    assert (best.chunk_id, round(best.score, 3)) == (changed, 1.0)


async def test_what_moves_while_an_index_is_built_is_found_where_it_moved(house: IndexHouse, admin: Caller) -> None:
    job = await house.ingest(lesson(81), "moved.txt")

    async def move() -> None:
        second = await house.service.create_job(
            job.document_id, Placement("grade-10-physics", "physics", "10"), uuid4()
        )
        await house.run_queued()
        assert (await house.service.job(second.id)).state == "READY"

    with caller.acting_as(admin):
        started = await house.indexes.start("", NEW, uuid4())
    result = succeeded(
        await house.run(started.id, house.reindexing(embedder=Doing(house.words[NEW], move, "Leçon 81.")))
    )
    for index in (house.index, result["index"]):
        assert await house.vectors.count(index, "grade-10-physics") == 1
        assert await house.vectors.count(index, MATHS.namespace) == 10


async def test_a_building_index_that_cannot_be_written_does_not_fail_a_document(
    house: IndexHouse, admin: Caller
) -> None:
    result = succeeded(await house.reindex(admin))
    house.words[NEW].broken = {"embed"}
    job = await house.ingest(lesson(90), "meanwhile.txt")
    assert job.state == "READY"
    house.words[NEW].broken = set()
    with caller.acting_as(admin), pytest.raises(IllegalState, match="1 chunks have no vector"):
        await house.indexes.activate(result["index"], uuid4())
    again = succeeded(await house.reindex(admin))
    assert again["index"] == result["index"]
    with caller.acting_as(admin):
        await house.indexes.activate(result["index"], uuid4())


async def test_a_cancelled_reindex_leaves_the_search_alone_and_can_be_gone_on_with(
    house: IndexHouse, admin: Caller
) -> None:
    with caller.acting_as(admin):
        started = await house.indexes.start("", NEW, uuid4())

    async def cancel() -> None:
        with caller.acting_as(admin):
            await house.operations.cancel(started.id, uuid4())

    stopped = await house.run(started.id, house.reindexing(embedder=Doing(house.words[NEW], cancel)))
    (left,) = [each for each in await house_indexes(house) if each.state is IndexState.FAILED]
    assert (stopped.state, left.problem) == (OperationState.CANCELLED, "stopped by a person")
    assert (await house.spaces.live()).index == house.index
    assert len(await house.vectors.ids(left.name)) < 10
    assert succeeded(await house.reindex(admin))["index"] == left.name
    assert await house.vectors.ids(left.name) == await house.all_chunks()


async def test_a_model_that_is_busy_is_waited_for(house: IndexHouse, admin: Caller) -> None:
    with caller.acting_as(admin):
        started = await house.indexes.start("", NEW, uuid4())
    busy = Busy(house.words[NEW], times=3)
    assert succeeded(await house.run(started.id, house.reindexing(embedder=busy)))["actual_count"] == 10


async def test_a_model_that_is_gone_fails_the_reindex_with_a_sentence(house: IndexHouse, admin: Caller) -> None:
    house.words[NEW].broken = {"embed"}
    with pytest.raises(ModelUnavailable):
        await house.reindex(admin)
    (left,) = [each for each in await house_indexes(house) if each.state is IndexState.FAILED]
    assert left.problem == f"The embedding model {NEW} does not answer."
    with caller.acting_as(admin), pytest.raises(IllegalState):
        await house.indexes.activate(left.name, uuid4())


async def test_a_way_back_brings_what_was_added_since(house: IndexHouse, admin: Caller) -> None:
    result = succeeded(await house.reindex(admin))
    with caller.acting_as(admin):
        await house.indexes.activate(result["index"], uuid4())
    await house.ingest(lesson(95), "since.txt")
    with caller.acting_as(admin):
        status = await house.indexes.rollback(uuid4())
        (catching_up, *_) = (await house.operations.list("reindex", size=5, page_token="")).items
    assert (status.index.name, status.index.state) == (house.index, IndexState.ACTIVE)
    assert (await house.spaces.live()).index == house.index == await house.vectors.live()
    succeeded(await house.run(catching_up.id))
    assert await house.vectors.ids(house.index) == await house.all_chunks()


async def test_there_is_no_way_back_before_a_switch(house: IndexHouse, admin: Caller) -> None:
    with caller.acting_as(admin), pytest.raises(IllegalState, match="no index to go back to"):
        await house.indexes.rollback(uuid4())


async def test_the_searched_index_cannot_be_dropped(house: IndexHouse, admin: Caller) -> None:
    with caller.acting_as(admin), pytest.raises(IllegalState, match="answers searches"):
        await house.indexes.drop(house.index, uuid4())
    assert house.index in await house.vectors.indexes()


async def test_an_index_that_is_being_filled_cannot_be_dropped_or_searched(house: IndexHouse, admin: Caller) -> None:
    with caller.acting_as(admin):
        started = await house.indexes.start("", NEW, uuid4())
    refused = []

    async def try_both() -> None:
        (building,) = [each for each in await house_indexes(house) if each.state is IndexState.BUILDING]
        with caller.acting_as(admin):
            for attempt in (house.indexes.drop, house.indexes.activate):
                with pytest.raises(IllegalState) as refusal:
                    await attempt(building.name, uuid4())
                refused.append(refusal.value)

    succeeded(await house.run(started.id, house.reindexing(embedder=Doing(house.words[NEW], try_both))))
    assert len(refused) == 2


async def test_a_dropped_index_is_gone_and_its_name_is_never_used_again(
    house: IndexHouse, admin: Caller, owner: psycopg.Connection
) -> None:
    result = succeeded(await house.reindex(admin))
    with caller.acting_as(admin):
        await house.indexes.activate(result["index"], uuid4())
        await house.indexes.drop(house.index, uuid4())
    assert await house.vectors.indexes() == [result["index"]] or house.index not in await house.vectors.indexes()
    assert owner.execute("SELECT count(*) FROM embedding_ref WHERE index_name = %s", [house.index]).fetchone() == (0,)
    with caller.acting_as(admin), pytest.raises(NotFound):
        await house.indexes.activate(house.index, uuid4())
    again = succeeded(await house.reindex(admin, OLD))
    assert again["index"] not in (house.index, result["index"])


async def test_a_store_that_missed_a_switch_follows_later(house: IndexHouse, admin: Caller) -> None:
    result = succeeded(await house.reindex(admin))
    with caller.acting_as(admin):
        await house.indexes.activate(result["index"], uuid4())
        await house.vectors.activate(house.index)  # as if the process had died before the alias moved
        await house.indexes.settle()
    assert await house.vectors.live() == result["index"]


async def test_every_change_is_audited_and_has_one_effect(house: IndexHouse, admin: Caller) -> None:
    result = succeeded(await house.reindex(admin))
    request_id = uuid4()
    with caller.acting_as(admin):
        await house.indexes.activate(result["index"], request_id)
        await house.indexes.rollback(uuid4())
        again = await house.indexes.activate(result["index"], request_id)
        with pytest.raises(RequestIdReused):
            await house.indexes.activate(house.index, request_id)
        await house.indexes.drop(result["index"], uuid4())
        events = (await house.indexes._audit.events(admin.user_id, "", size=10, page_token="")).items
    assert again.index.state is IndexState.RETIRED
    assert [event.action for event in events] == ["index.drop", "index.rollback", "index.activate", "operation.reindex"]
    assert result["index"] in events[2].after
    assert house.index in events[2].before


async def test_one_reindex_runs_at_a_time(house: IndexHouse, admin: Caller) -> None:
    with caller.acting_as(admin):
        await house.indexes.start("", NEW, uuid4())
        with pytest.raises(Conflict):
            await house.indexes.start("", NEW, uuid4())


async def test_an_unknown_model_is_refused_by_name(house: IndexHouse, admin: Caller) -> None:
    with caller.acting_as(admin), pytest.raises(Invalid) as refused:
        await house.indexes.start("", "no-such-model", uuid4())
    assert refused.value.violations[0].field == "embedding_model"


async def test_a_namespace_with_another_model_can_be_compared_but_not_searched(
    house: IndexHouse, admin: Caller
) -> None:
    await house.ingest(lesson(99), "physics.txt", Placement("grade-10-physics", "physics", "10"))
    part = succeeded(await house.reindex(admin, NEW, "grade-10-physics"))
    assert (part["actual_count"], await house.vectors.count(part["index"])) == (1, 1)
    with caller.acting_as(admin), pytest.raises(IllegalState, match="only the namespace grade-10-physics"):
        await house.indexes.activate(part["index"], uuid4())
    whole = succeeded(await house.reindex(admin))
    assert (whole["index"], whole["actual_count"]) == (part["index"], 11)
    with caller.acting_as(admin):
        await house.indexes.activate(whole["index"], uuid4())


async def test_a_namespace_of_the_searched_index_is_written_again(house: IndexHouse, admin: Caller) -> None:
    await house.vectors.delete(house.index, list(await house.all_chunks())[:3])
    result = succeeded(await house.reindex(admin, OLD, MATHS.namespace))
    assert result["index"] == house.index
    assert await house.vectors.ids(house.index) == await house.all_chunks()


async def test_a_namespace_without_chunks_is_refused(house: IndexHouse, admin: Caller) -> None:
    with caller.acting_as(admin), pytest.raises(NotFound):
        await house.indexes.start("nowhere", NEW, uuid4())


async def test_status_tells_of_all_indexes(house: IndexHouse, admin: Caller) -> None:
    result = succeeded(await house.reindex(admin))
    with caller.acting_as(admin):
        told = {each.index.name: each for each in await house.indexes.statuses()}
    assert {name: each.index.state for name, each in told.items()} == {
        house.index: IndexState.ACTIVE,
        result["index"]: IndexState.READY,
    }
    assert {(each.expected_count, each.actual_count) for each in told.values()} == {(10, 10)}


async def house_indexes(house: IndexHouse):
    with caller.acting_as(caller.system()):
        return await house.catalogue.listed()


class Doing:
    """An embedder during whose work something else happens once: at the first batch, or at the one with `text`."""

    def __init__(self, embedder, act, text=""):
        self._embedder, self._act, self._text = embedder, act, text
        self.name, self.dimensions = embedder.name, embedder.dimensions

    async def embed(self, texts, purpose):
        if self._act is not None and any(self._text in text for text in texts):
            act, self._act = self._act, None
            await act()
        return await self._embedder.embed(texts, purpose)


class Busy(Doing):
    """An embedder that asks to be left alone a few times."""

    def __init__(self, embedder, times):
        super().__init__(embedder, None)
        self._times = times

    async def embed(self, texts, purpose):
        self._times -= 1
        if self._times >= 0:
            raise ProviderFailure("busy", transient=True, retry_after_seconds=0.01)
        return await self._embedder.embed(texts, purpose)
