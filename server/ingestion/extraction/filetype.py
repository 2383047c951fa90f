"""What a file is, by its first bytes and its declared name: the readers trust neither alone. Pure."""

import zipfile
from enum import StrEnum
from pathlib import PurePosixPath
from typing import BinaryIO

HEAD_BYTES = 4096


class FileType(StrEnum):
    """The formats we read; the value is the media type."""

    PDF = "application/pdf"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    HTML = "text/html"
    MARKDOWN = "text/markdown"
    TEXT = "text/plain"


_BY_SUFFIX = {
    ".pdf": FileType.PDF,
    ".docx": FileType.DOCX,
    ".html": FileType.HTML,
    ".htm": FileType.HTML,
    ".xhtml": FileType.HTML,
    ".md": FileType.MARKDOWN,
    ".markdown": FileType.MARKDOWN,
    ".txt": FileType.TEXT,
}
_BY_MEDIA_TYPE = {kind.value: kind for kind in FileType}
_ZIP_MAGIC = b"PK\x03\x04"
_TEXTS = frozenset({FileType.HTML, FileType.MARKDOWN, FileType.TEXT})
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")
_BINARY_MAGIC = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"\x7fELF",
    b"MZ",
    b"\x1f\x8b",
    b"Rar!",
    b"7z\xbc\xaf",
    b"\xd0\xcf\x11\xe0",
)


def declared(filename: str, content_type: str) -> FileType | None:
    """Return the type that a name or media type promises; None when we read neither."""
    media_type = content_type.partition(";")[0].strip().lower()
    by_name = _BY_SUFFIX.get(PurePosixPath(filename).suffix.lower())
    promised = _BY_MEDIA_TYPE.get(media_type)
    if promised is not None:
        return by_name if by_name in _TEXTS and promised in _TEXTS else promised
    return by_name


def fits(head: bytes, promised: FileType) -> bool:
    """Say whether the first HEAD_BYTES bytes can begin a file of the promised type."""
    if promised is FileType.PDF:
        return b"%PDF-" in head[:1024]
    if promised is FileType.DOCX:
        return head.startswith(_ZIP_MAGIC)
    return _looks_like_text(head)


def _looks_like_text(head: bytes) -> bool:
    """Say whether bytes may be text: no known binary format, and no more NUL bytes than UTF-16 text has."""
    if head.startswith(_BYTE_ORDER_MARKS):
        return True
    if head.startswith((*_BINARY_MAGIC, _ZIP_MAGIC, b"%PDF-")):
        return False
    controls = sum(byte < 9 or 13 < byte < 32 for byte in head)
    return controls <= len(head) // 20 or _looks_like_utf16(head)


def _looks_like_utf16(head: bytes) -> bool:
    even, odd = head[::2].count(0), head[1::2].count(0)
    return max(even, odd) > 10 * min(even, odd) and max(even, odd) > len(head) // 8


def unpacked_bytes(file: BinaryIO) -> int:
    """Return the size that a ZIP archive claims to unpack to, in bytes. Raises zipfile.BadZipFile."""
    with zipfile.ZipFile(file) as archive:
        return sum(entry.file_size for entry in archive.infolist())
