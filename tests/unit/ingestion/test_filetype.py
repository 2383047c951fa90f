"""What a file is: by its name, its declared type and its first bytes."""

import pytest

from server.ingestion.extraction.filetype import FileType, declared, fits


@pytest.mark.parametrize(
    ("filename", "content_type", "expected"),
    [
        ("a.pdf", "application/pdf", FileType.PDF),
        ("a.pdf", "application/octet-stream", FileType.PDF),
        ("A.PDF", "", FileType.PDF),
        ("a", "application/pdf; version=1.7", FileType.PDF),
        ("a.md", "text/plain", FileType.MARKDOWN),
        ("a.html", "text/plain; charset=utf-8", FileType.HTML),
        ("a.docx", "", FileType.DOCX),
        ("a.exe", "application/x-msdownload", None),
        ("a", "", None),
    ],
)
def test_the_declared_type_is_found(filename: str, content_type: str, expected: FileType | None) -> None:
    assert declared(filename, content_type) is expected


@pytest.mark.parametrize(
    ("head", "promised", "expected"),
    [
        (b"%PDF-1.7\n", FileType.PDF, True),
        (b"\n\n%PDF-1.4", FileType.PDF, True),
        (b"\x89PNG\r\n", FileType.PDF, False),
        (b"PK\x03\x04", FileType.DOCX, True),
        (b"%PDF-1.7", FileType.DOCX, False),
        (b"Le cours", FileType.TEXT, True),
        ("الدرس".encode("cp1256"), FileType.TEXT, True),
        ("الدرس الأول في الفلسفة".encode("utf-16"), FileType.TEXT, True),
        ("Le premier cours de physique".encode("utf-16-le"), FileType.TEXT, True),
        (b"%PDF-1.7", FileType.TEXT, False),
        (b"\x7fELF\x02\x01", FileType.TEXT, False),
        (bytes(range(256)), FileType.TEXT, False),
        (b"<html>", FileType.HTML, True),
    ],
)
def test_the_first_bytes_must_fit_the_promise(head: bytes, promised: FileType, expected: bool) -> None:
    assert fits(head, promised) is expected
