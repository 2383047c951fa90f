"""Hostile and damaged files: a typed failure with a reason, nothing left behind, everything else unharmed."""

import re
import zipfile
from io import BytesIO
from uuid import uuid4

import pytest

from server.caller import Caller
from server.ingestion.extraction.page import Limits
from server.ingestion.jobstate import JobState
from server.ingestion.store.uploads import Announced
from server.refusal import UploadRefused
from tests.service.ingestion.ingesting import MATHS, House, sample
from tests.unit.ingestion import pdfs

LESSON = sample("physique_newton.md").decode()
PDF = sample("maths_suites.pdf")

BROKEN_MAP = sample("tarikh_mauritania.md").decode().replace("ت", "ةق").replace("م", "ىم")
"""Arabic as it comes out of a font whose map of characters is wrong."""


def zip_bomb() -> bytes:
    out = BytesIO()
    with (
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.xml", "w", force_zip64=True) as xml,
    ):
        for _ in range(350):
            xml.write(bytes(1024 * 1024))
    return out.getvalue()


BROKEN = {
    "truncated": (PDF[:700], "a.pdf", "BROKEN_FILE"),
    "garbage": (b"%PDF-1.7\n" + bytes(range(256)) * 20, "a.pdf", "BROKEN_FILE"),
    "encrypted": (pdfs.encrypted(), "a.pdf", "ENCRYPTED"),
    "zip bomb": (zip_bomb(), "a.docx", "TOO_LARGE"),
    "no word document": (b"PK\x03\x04" + bytes(500), "a.docx", "BROKEN_FILE"),
    "10,000 pages": (pdfs.blank(10_000), "a.pdf", "TOO_MANY_PAGES"),
    "blank": (pdfs.blank(3), "a.pdf", "NO_TEXT"),
    "only spaces": (b" \n\t\n " * 50, "a.txt", "NO_TEXT"),
    "noise": (b"zqxj kvwq pfjx " * 80, "a.txt", "NO_TEXT"),
    "broken character map": (BROKEN_MAP.encode(), "a.txt", "NO_TEXT"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_damaged_file_fails_with_its_reason_and_leaves_nothing(
    house: House, teacher: Caller, name: str
) -> None:
    content, filename, reason = BROKEN[name]
    job = await house.ingest(content, filename)
    assert job.state is JobState.FAILED
    assert job.failure_reason.startswith(reason)
    assert not re.search(r"PDFium|Error|Exception|BadZip", job.failure_reason), "what a library says is not for callers"
    assert not await house.chunk_ids(job.document_id)
    assert not await house.vector_ids()
    assert not list(house.scratch.iterdir())


async def test_a_bomb_in_a_pdf_ends_in_a_reason_and_other_jobs_go_on(house: House, teacher: Caller) -> None:
    document = await house.upload(pdfs.bomb(400), "bomb.pdf")
    bomb = await house.service.create_job(document.id, MATHS, uuid4())
    pipeline = house.pipeline_with(house.embedder, limits=Limits(memory_bytes=500 * 1024 * 1024, timeout_seconds=5))
    await house.run_queued(pipeline)
    ended = await house.service.job(bomb.id)
    assert ended.failure_reason
    assert (await house.ingest(f"{LESSON} {uuid4()}".encode())).state is JobState.READY


async def test_an_empty_file_is_not_taken(house: House, teacher: Caller) -> None:
    with pytest.raises(UploadRefused):
        await house.upload(b"", "a.pdf")


async def test_a_file_of_a_gigabyte_is_not_taken(house: House, teacher: Caller) -> None:
    announced = Announced("a.pdf", "application/pdf", 1024**3, "0" * 64, "", "shared")
    with pytest.raises(UploadRefused):
        await house.uploads.create_upload(announced, uuid4())


async def test_a_wrong_extension_is_refused_at_the_door(house: House, teacher: Caller) -> None:
    with pytest.raises(UploadRefused):
        await house.upload(PDF, "a.txt")
    with pytest.raises(UploadRefused):
        await house.upload(LESSON.encode(), "a.pdf")


async def test_direction_overrides_and_nul_bytes_do_not_reach_the_library(house: House, teacher: Caller) -> None:
    hostile = LESSON.replace("référentiel", "\u202eréfé\u0000rentiel\u202c\u2067").encode()
    job = await house.ingest(hostile)
    assert job.state is JobState.READY
    text = " ".join(chunk.text for chunk in await house.corpus.document_chunks(job.document_id))
    assert "référentiel" in text
    assert not set(text) & set("\u202e\u202c\u2067\x00")


async def test_lone_surrogates_and_broken_utf8_are_read_as_far_as_possible(house: House, teacher: Caller) -> None:
    job = await house.ingest(LESSON.encode() + b"\xed\xa0\x80 \xff\xfe fin")
    assert job.state is JobState.READY


async def test_a_page_that_cannot_be_trusted_is_flagged_and_not_indexed(house: House, teacher: Caller) -> None:
    garbage = "zqxj kvwq pfjx wqz xkj " * 30
    job = await house.ingest(f"{LESSON}\f{garbage}".encode())
    document = await house.corpus.document(job.document_id)
    assert (job.state, job.progress.pages_rejected, document.flagged_page_count) == (JobState.READY, 1, 1)
    assert not any("kvwq" in chunk.text for chunk in await house.corpus.document_chunks(document.id))
