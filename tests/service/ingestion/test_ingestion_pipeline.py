"""From a file to searchable chunks, over real stores."""

from server.caller import Caller
from server.corpus.passage import CorpusFilter
from server.ingestion.jobstate import JobState
from tests.service.ingestion.ingesting import House, sample


async def test_a_french_pdf_becomes_searchable(house: House, teacher: Caller) -> None:
    job = await house.ingest(sample("maths_suites.pdf"), "maths_suites.pdf")
    assert (job.state, job.failure_reason) == (JobState.READY, "")
    hits = await house.corpus.search_text("suite géométrique raison", CorpusFilter(), 5)
    chunks = await house.corpus.chunks([hit.chunk_id for hit in hits])
    assert any("géométrique" in chunk.text for chunk in chunks.values())


async def test_an_arabic_pdf_becomes_searchable_in_reading_order(house: House, teacher: Caller) -> None:
    job = await house.ingest(sample("falsafa_haqiqa.pdf"), "falsafa_haqiqa.pdf")
    assert (job.state, job.failure_reason) == (JobState.READY, "")
    chunks = await house.corpus.document_chunks(job.document_id)
    assert "الفلسفة كلمة يونانية الأصل معناها محبة الحكمة" in chunks[0].text


async def test_every_chunk_of_a_ready_document_has_a_vector_and_a_reference(house: House, teacher: Caller) -> None:
    job = await house.ingest(sample("physique_newton.pdf"), "physique_newton.pdf")
    ids = await house.chunk_ids(job.document_id)
    assert await house.vector_ids() == ids
    assert len(ids) == job.progress.chunks_done == job.progress.chunks_total
