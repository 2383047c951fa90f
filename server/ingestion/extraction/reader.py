"""Which reader opens which type of file; each is imported only when needed: a reader process lives for one file."""

from collections.abc import Iterator
from importlib import import_module
from itertools import dropwhile
from pathlib import Path

from server.ingestion.extraction.filetype import HEAD_BYTES, FileType, fits
from server.ingestion.extraction.page import ExtractionFailed, Failure, Limits, Page

_READERS = {FileType.DOCX: "docx", FileType.HTML: "html", FileType.MARKDOWN: "plain", FileType.TEXT: "plain"}


def open_file(path: Path, file_type: str, first_page: int, language: str, limits: Limits) -> tuple[int, Iterator[Page]]:
    """Return the number of pages and the pages from `first_page` on. Raises ExtractionFailed."""
    promised = FileType(file_type)
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise ExtractionFailed(Failure.EMPTY_FILE)
    if not fits(head, promised):
        raise ExtractionFailed(Failure.UNSUPPORTED_TYPE, f"the bytes are not {promised}")
    if promised is FileType.PDF:
        from server.ingestion.extraction.pdf import PdfFile

        file_pages = PdfFile(path, limits, language)
        return file_pages.page_count, file_pages.pages(first_page)
    reader = import_module(f"server.ingestion.extraction.{_READERS[promised]}")
    pages: list[Page] = list(reader.read(path, limits))
    return len(pages), dropwhile(lambda page: page.number < first_page, pages)
