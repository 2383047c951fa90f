"""Word documents: paragraphs and tables in document order, parted at page breaks."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import docx
from docx.opc.exceptions import OpcError
from docx.oxml.ns import qn
from docx.table import Table
from docx.text.paragraph import Paragraph

from server.ingestion.extraction.filetype import unpacked_bytes
from server.ingestion.extraction.offline import lowered, raised
from server.ingestion.extraction.page import ExtractionFailed, Failure, Limits, Method, Page
from server.ingestion.extraction.plain import paged

MAX_UNPACKED_BYTES = 300 * 1024 * 1024


def read(path: Path, limits: Limits) -> Iterator[Page]:
    """Yield the pages of a Word document. Raises ExtractionFailed; an archive that unpacks to too much is refused."""
    try:
        with path.open("rb") as file:
            if unpacked_bytes(file) > MAX_UNPACKED_BYTES:
                raise ExtractionFailed(Failure.TOO_LARGE, "the archive unpacks to too much")
        document = docx.Document(str(path))
    except (zipfile.BadZipFile, OpcError, KeyError, ValueError) as error:
        raise ExtractionFailed(Failure.BROKEN_FILE, "the file cannot be opened as a Word document") from error
    text = "\n\n".join(_blocks(document))
    if len(text) > limits.characters:
        raise ExtractionFailed(Failure.TOO_LARGE, f"{len(text)} characters, {limits.characters} allowed")
    yield from paged(text, limits, Method.MARKUP)


def _blocks(document: "docx.document.Document") -> Iterator[str]:
    for block in document.iter_inner_content():
        if isinstance(block, Paragraph):
            yield _paragraph(block)
        elif isinstance(block, Table):
            yield "\n".join(" | ".join(cell.text.strip() for cell in row.cells) for row in block.rows)


def _paragraph(paragraph: Paragraph) -> str:
    """Return a paragraph's text; a form feed stands for a page break, x² for a raised 2."""
    pieces = []
    for run in paragraph.runs:
        if any(element.get(qn("w:type")) == "page" for element in run._element.iter(qn("w:br"))):
            pieces.append("\f")
        text = run.text
        pieces.append(raised(text) if run.font.superscript else lowered(text) if run.font.subscript else text)
    return "".join(pieces)
