"""The reader process: its pages come through, its limits hold, and nothing of it is left."""

import asyncio
import os
import zipfile
from pathlib import Path

import pytest

from server.ingestion.extraction.filetype import FileType
from server.ingestion.extraction.page import ExtractionFailed, Failure, Limits, Page
from server.ingestion.extraction.worker import Extraction, Opened
from tests.unit.ingestion import pdfs

SAMPLES = Path(__file__).parents[3] / "samples"


async def read(
    path: Path, file_type: FileType, limits: Limits | None = None, first_page: int = 1
) -> list[Opened | Page]:
    messages = Extraction(limits or Limits()).read(path, file_type, first_page=first_page)
    return [message async for message in messages]


async def failure(path: Path, file_type: FileType, limits: Limits | None = None) -> Failure:
    with pytest.raises(ExtractionFailed) as failed:
        await read(path, file_type, limits)
    return failed.value.failure


def children() -> set[str]:
    """The processes that have this one as their parent."""
    me = f"{os.getpid()}"
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if fields[1] == me and b"server.ingestion.extraction" in command:
            found.add(folder.name)
    return found


async def test_pages_come_after_their_number_is_known() -> None:
    opened, *pages = await read(SAMPLES / "maths_suites.pdf", FileType.PDF)
    assert opened == Opened(3)
    assert [page.number for page in pages if isinstance(page, Page)] == [1, 2, 3]


async def test_reading_goes_on_at_a_later_page() -> None:
    _, *pages = await read(SAMPLES / "maths_suites.pdf", FileType.PDF, first_page=3)
    assert len(pages) == 1


async def test_a_reader_that_is_left_early_is_ended() -> None:
    messages = Extraction(Limits()).read(SAMPLES / "maths_suites.pdf", FileType.PDF)
    await anext(messages)
    await messages.aclose()
    assert not children()


async def test_an_empty_file_is_named_so(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    assert await failure(path, FileType.PDF) is Failure.EMPTY_FILE


async def test_bytes_of_another_type_are_named_so(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert await failure(path, FileType.PDF) is Failure.UNSUPPORTED_TYPE


async def test_a_file_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdfs.bomb(200))
    assert await failure(path, FileType.PDF, Limits(timeout_seconds=1.0)) is Failure.TIME_LIMIT
    assert not children()


async def test_a_file_that_takes_too_much_memory_hurts_only_its_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdfs.bomb(600))
    failed = await failure(path, FileType.PDF, Limits(memory_bytes=400 * 1024 * 1024, timeout_seconds=60))
    assert failed in (Failure.MEMORY_LIMIT, Failure.CRASHED, Failure.BROKEN_FILE, Failure.TOO_LARGE)


async def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.xml", "w", force_zip64=True) as xml,
    ):
        for _ in range(400):
            xml.write(bytes(1024 * 1024))
    assert path.stat().st_size < 1_000_000
    assert await failure(path, FileType.DOCX) is Failure.TOO_LARGE


async def test_two_readers_at_most_run_at_once() -> None:
    extraction = Extraction(Limits(), concurrency=2)
    running: list[int] = []

    async def one() -> None:
        async for _ in extraction.read(SAMPLES / "maths_suites.pdf", FileType.PDF):
            running.append(len(children()))

    await asyncio.gather(*(one() for _ in range(4)))
    assert max(running) <= 2
