"""The server's side of extraction: has a file read, takes its pages, gives it up when it passes its limits."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from server.ingestion.extraction.page import ExtractionFailed, Failure, Limits, Method, Page
from server.ingestion.extraction.readers import Readers

OCR_EXTRA_SECONDS = 30.0
"""What each page that needs OCR adds to the time a file may take."""
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
        self._readers = Readers()

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
        async with self._slots, self._readers.reader(json.dumps(task)) as said:
            async for message in self._messages(said):
                yield message

    async def _messages(self, said: asyncio.StreamReader) -> AsyncIterator[Opened | Page]:
        ends_at = asyncio.get_running_loop().time() + self._limits.timeout_seconds
        while True:
            message = await _next(said, ends_at)
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


async def _next(said: asyncio.StreamReader, ends_at: float) -> dict[str, Any]:
    """Return the next message; raise ExtractionFailed when there is none in time."""
    try:
        async with asyncio.timeout_at(ends_at):
            while line := await said.readline():
                message = _message(line)
                if message is not None:
                    return message
    except TimeoutError:
        raise ExtractionFailed(Failure.TIME_LIMIT, "the file took too long to read") from None
    except ValueError:
        raise ExtractionFailed(Failure.TOO_LARGE, "a page is too long") from None
    raise ExtractionFailed(Failure.CRASHED, "the reader was lost")


def _message(line: bytes) -> dict[str, Any] | None:
    """Return a message, None for half a one. Raises ExtractionFailed for the news that the reader has ended."""
    try:
        message: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    if "ended" not in message:
        return message
    if message["ended"] == _KILLED_BY_CPU_LIMIT:
        raise ExtractionFailed(Failure.TIME_LIMIT, "the file took too much computing")
    raise ExtractionFailed(Failure.CRASHED, f"the reader ended with {message['ended']}")


def _page(fields: dict[str, Any]) -> Page:
    return Page(fields["number"], fields["text"], Method(fields["method"]), fields["confidence"])
