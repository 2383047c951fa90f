"""The server's side of extraction: starts the reader process, takes its pages, ends it when it passes its limits."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from server.ingestion.extraction.page import ExtractionFailed, Failure, Limits, Method, Page

OCR_EXTRA_SECONDS = 30.0
"""What each page that needs OCR adds to the time a file may take."""
_MESSAGE_BYTES = 64 * 1024 * 1024
_ROOT = Path(__file__).parents[3]
_KILLED_BY_CPU_LIMIT = -signal.SIGXCPU

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """The first thing a reader says: how many pages the file has."""

    pages_total: int


class Extraction:
    """Reads files in processes of their own. At most `concurrency` run at once."""

    def __init__(self, limits: Limits, concurrency: int = 2) -> None:
        self._limits = limits
        self._slots = asyncio.Semaphore(concurrency)

    async def read(
        self, path: Path, file_type: str, *, first_page: int = 1, language: str = ""
    ) -> AsyncIterator[Opened | Page]:
        """Yield `Opened`, then each page from `first_page` on. Raises ExtractionFailed; closing it ends the reader."""
        task = {
            "path": str(path),
            "type": file_type,
            "first_page": first_page,
            "language": language,
            "limits": asdict(self._limits),
        }
        async with self._slots, _reader(json.dumps(task)) as process:
            async for message in self._messages(process):
                yield message

    async def _messages(self, process: asyncio.subprocess.Process) -> AsyncIterator[Opened | Page]:
        ends_at = asyncio.get_running_loop().time() + self._limits.timeout_seconds
        while True:
            message = await _next(process, ends_at)
            if message.get("done"):
                return
            if "failure" in message:
                if "error" in message:
                    log.warning("reader_stumbled", error=message["error"])
                raise ExtractionFailed(Failure(message["failure"]), message.get("detail", ""))
            if "pages_total" in message:
                yield Opened(int(message["pages_total"]))
                continue
            page = _page(message["page"])
            if page.method is Method.OCR:
                ends_at += OCR_EXTRA_SECONDS
            yield page


@contextlib.asynccontextmanager
async def _reader(task: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a reader with all that it starts; nothing of it is left afterwards, however the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        # A reader lives for one file: what it does not look at when it starts is saved for each.
        "-S",
        "-m",
        "server.ingestion.extraction",
        task,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        limit=_MESSAGE_BYTES,
        env={
            "PATH": os.defpath + ":/usr/local/bin",
            "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, sys.path)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LC_ALL": "C.UTF-8",
            "OMP_THREAD_LIMIT": "1",
            "OPENBLAS_NUM_THREADS": "1",
        },
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())


async def _next(process: asyncio.subprocess.Process, ends_at: float) -> dict[str, Any]:
    if process.stdout is None:
        raise ExtractionFailed(Failure.CRASHED, "the reader has no output")
    try:
        async with asyncio.timeout_at(ends_at):
            line = await process.stdout.readline()
    except TimeoutError:
        raise ExtractionFailed(Failure.TIME_LIMIT, "the file took too long to read") from None
    except ValueError:
        raise ExtractionFailed(Failure.TOO_LARGE, "a page is too long") from None
    if line:
        message: dict[str, Any] = json.loads(line)
        return message
    raise _ended_early(await process.wait())


def _ended_early(code: int) -> ExtractionFailed:
    if code == _KILLED_BY_CPU_LIMIT:
        return ExtractionFailed(Failure.TIME_LIMIT, "the file took too much computing")
    return ExtractionFailed(Failure.CRASHED, f"the reader ended with {code}")


def _page(fields: dict[str, Any]) -> Page:
    return Page(fields["number"], fields["text"], Method(fields["method"]), fields["confidence"])
