"""A reindex also makes the search terms again that another version of the analyser made."""

from uuid import uuid4

import psycopg
import pytest

from server import caller
from server.caller import Caller
from server.corpus.passage import CorpusFilter
from server.refusal import Conflict
from tests.service.indexes.reindexing import AGE, NEW, OLD, IndexHouse, lesson, succeeded
from tests.service.ingestion.ingesting import Placement


async def test_a_reindex_makes_outdated_search_terms_again(
    house: IndexHouse, admin: Caller, owner: psycopg.Connection
) -> None:
    owner.execute(AGE)
    with caller.acting_as(admin):
        assert await house.corpus.search_text("leçon", CorpusFilter(), 20) == []
    assert succeeded(await house.reindex(admin))["renewed_terms"] == 10
    with caller.acting_as(admin):
        assert len(await house.corpus.search_text("leçon", CorpusFilter(), 20)) == 10
    assert await house.outdated() == 0
    assert succeeded(await house.reindex(admin))["renewed_terms"] == 0


async def test_a_part_of_the_searched_index_is_made_again_with_its_terms(
    house: IndexHouse, admin: Caller, owner: psycopg.Connection
) -> None:
    physics = Placement("grade-10-physics", "physics", "10")
    await house.ingest(lesson(90), "physics.txt", physics)
    owner.execute(AGE)
    assert succeeded(await house.reindex(admin, OLD, physics.namespace))["renewed_terms"] == 1
    assert (await house.outdated(physics.namespace), await house.outdated()) == (0, 10)


async def test_a_worker_of_another_release_leaves_a_reindex_and_the_terms_alone(
    house: IndexHouse, admin: Caller, owner: psycopg.Connection
) -> None:
    owner.execute(AGE)
    with caller.acting_as(admin):
        started = await house.indexes.start("", NEW, uuid4())
    owner.execute("UPDATE operation SET task = task || '{\"analyser_version\": 2}' WHERE id = %s", [started.id])
    with pytest.raises(Conflict, match="another release"):
        await house.run(started.id)
    assert await house.outdated() == 10
