"""Pages that nearly repeat others: linked, never lost; exercises that differ in figures are no duplicates."""

from collections.abc import Callable
from uuid import UUID, uuid4

import psycopg

from server import caller
from server.caller import Caller
from server.corpus.passage import Visibility
from server.ingestion.job import Placement
from server.ingestion.jobstate import JobState
from tests.service.ingestion.ingesting import House, sample

LESSON = sample("biologie_photosynthese.md").decode()
EXERCISES = "\n\n".join(
    f"Exercice {n}. Un colis de {3 * n + 5} kg est posé sur le plancher d'un ascenseur qui monte avec une accélération "
    f"de {n / 10 + 1} m·s⁻². Calculer la valeur de la force exercée par le plancher sur le colis, en newtons."
    for n in range(1, 5)
)


def links(owner: psycopg.Connection, document_id: UUID) -> list[tuple[str, UUID | None, int | None]]:
    return owner.execute(
        "SELECT verdict, duplicate_document_id, duplicate_number FROM page WHERE document_id = %s ORDER BY number",
        [document_id],
    ).fetchall()


def somewhere() -> Placement:
    return Placement(f"shelf-{uuid4().hex[:8]}", "biology", "12")


async def test_a_page_that_repeats_another_document_is_linked_and_stays_searchable(
    house: House, teacher: Caller, owner: psycopg.Connection
) -> None:
    where = somewhere()
    first = await house.ingest(LESSON.encode(), where=where)
    second = await house.ingest(LESSON.replace("dioxygène", "dioxygene", 3).encode(), where=where)
    assert second.state is JobState.READY
    assert links(owner, second.document_id) == [("indexed", first.document_id, 1)]
    assert await house.chunk_ids(second.document_id)


async def test_a_page_that_repeats_one_of_its_own_document_is_left_out(
    house: House, teacher: Caller, owner: psycopg.Connection
) -> None:
    job = await house.ingest(f"{LESSON}\f{LESSON} ".encode(), where=somewhere())
    assert job.progress.pages_rejected == 1
    assert links(owner, job.document_id)[1] == ("duplicate", job.document_id, 1)


async def test_exercises_that_differ_in_their_figures_are_not_linked(
    house: House, teacher: Caller, owner: psycopg.Connection
) -> None:
    where = somewhere()
    await house.ingest(EXERCISES.encode(), where=where)
    other = EXERCISES.replace("colis de 8 kg", "colis de 9 kg").replace("colis de 11 kg", "colis de 12 kg")
    second = await house.ingest(other.encode(), where=where)
    assert links(owner, second.document_id) == [("indexed", None, None)]


async def test_a_private_document_of_another_person_is_not_linked_to(
    house: House, teacher: Caller, owner: psycopg.Connection, make_user: Callable[..., Caller]
) -> None:
    where = somewhere()
    with caller.acting_as(make_user("teacher")):
        private = await house.upload(LESSON.encode(), visibility=Visibility.PRIVATE)
        await house.service.create_job(private.id, where, uuid4())
        await house.run_queued()
    job = await house.ingest(f"{LESSON} ".encode(), where=where)
    assert links(owner, job.document_id) == [("indexed", None, None)]
