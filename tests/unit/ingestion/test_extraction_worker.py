"""The reader process: its pages come through, its limits hold, and nothing of it is left."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import zipfile
from contextlib import closing
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Family:
    """Who started whom, of all processes; a reader is three below the server and leads a group."""

    parents: dict[int, int]
    groups: dict[int, int]

    @staticmethod
    def now() -> "Family":
        family = Family({}, {})
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                _, parent, group, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            family.parents[int(folder.name)], family.groups[int(folder.name)] = int(parent), int(group)
        return family

    def above(self, process: int, levels: int) -> int:
        return process if levels == 0 else self.above(self.parents.get(process, 0), levels - 1)


def readers(server: int | None = None) -> list[int]:
    """The readers of a server, of this process by default."""
    family = Family.now()
    return [
        process
        for process, group in family.groups.items()
        if group == process and family.above(process, 3) == (server or os.getpid())
    ]


def is_over(process: int) -> bool:
    """Wait until a process has ended; False when it takes long."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    with closing(os.fdopen(descriptor)) as ends:
        return bool(select.select([ends], [], [], 20)[0])


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
    assert not readers()


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
    assert not readers()


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
            running.append(len(readers()))

    await asyncio.gather(*(one() for _ in range(4)))
    assert 0 < max(running) <= 2


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A file that keeps its reader busy after it said how many pages there are."""
    path = tmp_path / "endless.pdf"
    path.write_bytes(pdfs.bomb(600))
    return path


async def test_a_reader_holds_nothing_that_leads_to_the_next(endless: Path) -> None:
    messages = Extraction(Limits()).read(endless, FileType.PDF)
    await anext(messages)
    (reader,) = readers()
    held = [os.readlink(f"/proc/{reader}/fd/{descriptor}") for descriptor in os.listdir(f"/proc/{reader}/fd")]
    await messages.aclose()
    assert sum(name.startswith("socket:") for name in held) == 1


async def test_a_reader_imports_nothing_from_the_folder_that_the_server_was_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "__init__.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path)
    assert len(await read(SAMPLES / "maths_suites.pdf", FileType.PDF)) == 4


async def test_a_file_is_read_after_the_readers_parent_was_killed(endless: Path) -> None:
    extraction = Extraction(Limits())
    messages = extraction.read(endless, FileType.PDF)
    await anext(messages)
    (reader,) = readers()
    os.kill(Family.now().above(reader, 2), signal.SIGKILL)
    await messages.aclose()
    assert is_over(reader)
    again = [message async for message in extraction.read(SAMPLES / "maths_suites.pdf", FileType.PDF)]
    assert len(again) == 4


def test_a_reader_ends_with_the_server(endless: Path) -> None:
    server = subprocess.Popen([sys.executable, "-c", SERVER, endless], stdout=subprocess.PIPE)
    with server, closing(server.stdout) as said:  # type: ignore[type-var]
        assert said is not None
        said.readline()
        (reader,) = readers(server.pid)
        minder, parent = (Family.now().above(reader, level) for level in (1, 2))
        server.kill()
        assert all(map(is_over, (reader, minder, parent)))


SERVER = """
import asyncio, sys
from pathlib import Path
from server.ingestion.extraction.page import Limits
from server.ingestion.extraction.worker import Extraction

async def main():
    async for message in Extraction(Limits()).read(Path(sys.argv[1]), "application/pdf"):
        print("opened", flush=True)

asyncio.run(main())
"""
