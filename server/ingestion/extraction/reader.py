"""Which reader opens which type of file; each is imported only when needed, and then once for all files (`prepare`)."""

from collections.abc import Iterator
from importlib import import_module
from itertools import dropwhile
from pathlib import Path
from types import ModuleType

from server.ingestion.extraction.filetype import HEAD_BYTES, FileType, fits
from server.ingestion.extraction.page import ExtractionFailed, Failure, Limits, Page

_READERS = {
    FileType.DOCX: "docx",
    FileType.HTML: "html",
    FileType.MARKDOWN: "plain",
    FileType.PDF: "pdf",
    FileType.TEXT: "plain",
}


def prepare(file_type: str) -> ModuleType:
    """Import and return the reader of a type of file."""
    return import_module(f"server.ingestion.extraction.{_READERS[FileType(file_type)]}")


def open_file(path: Path, file_type: str, first_page: int, language: str, limits: Limits) -> tuple[int, Iterator[Page]]:
    """Return the number of pages and the pages from `first_page` on. Raises ExtractionFailed."""
    promised = FileType(file_type)
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise ExtractionFailed(Failure.EMPTY_FILE)
    if not fits(head, promised):
        raise ExtractionFailed(Failure.UNSUPPORTED_TYPE, f"the bytes are not {promised}")
    reader = prepare(file_type)
    if promised is FileType.PDF:
        file_pages = reader.PdfFile(path, limits, language)
        return file_pages.page_count, file_pages.pages(first_page)
    pages: list[Page] = list(reader.read(path, limits))
    return len(pages), dropwhile(lambda page: page.number < first_page, pages)
