"""What a vector store lost comes back from PostgreSQL."""

from server.caller import Caller, acting_as, system
from server.ingestion.healing import heal
from tests.service.ingestion.ingesting import House, sample


async def test_lost_vectors_are_written_again_without_a_model(house: House, teacher: Caller) -> None:
    job = await house.ingest(sample("physique_newton.pdf"), "physique_newton.pdf")
    ids = await house.chunk_ids(job.document_id)
    await house.vectors.delete(house.index, sorted(ids)[:-1])
    with acting_as(system()):
        written = await heal(house.refs, house.vectors, house.index)
    assert written == len(ids) - 1
    assert await house.vector_ids() >= ids


async def test_nothing_is_written_where_nothing_is_lost(house: House, teacher: Caller) -> None:
    await house.ingest(sample("maths_suites.pdf"), "maths_suites.pdf")
    with acting_as(system()):
        assert await heal(house.refs, house.vectors, house.index) == 0
