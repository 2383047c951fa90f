"""Plain text and Markdown: which encoding it is in, and where its pages part."""

import re
from collections.abc import Iterator
from pathlib import Path

from server.ingestion.extraction.cleaning import clean
from server.ingestion.extraction.page import ExtractionFailed, Failure, Limits, Method, Page

PAGE_CHARACTERS = 12_000
"""A text without page breaks is cut into pages of at most this length, between paragraphs where possible."""
_CANDIDATES = ["utf_8", "utf_16", "utf_16_le", "utf_16_be", "cp1256", "cp1252", "iso8859_6", "mac_roman"]
_REPLACED = "\ufffd"
_VALID_PER_FAULT = 10
"""A text with at least so many valid letters beyond ASCII per broken one is damaged UTF-8, not another encoding."""
_SAMPLE_BYTES = 64 * 1024
_UTF16_HIGH_BYTES = (b"\x00", b"\x06")
_UTF16_SHARE = 0.5
_PARAGRAPH_END = re.compile(r"\n[ \t]*\n")


def read(path: Path, limits: Limits) -> Iterator[Page]:
    """Yield the pages of a text file. Raises ExtractionFailed."""
    text = decode(path.read_bytes())
    if len(text) > limits.characters:
        raise ExtractionFailed(Failure.TOO_LARGE, f"{len(text)} characters, {limits.characters} allowed")
    yield from paged(text, limits)


def paged(text: str, limits: Limits, method: Method = Method.PLAIN) -> Iterator[Page]:
    """Yield pages: at form feeds, and where a page would pass PAGE_CHARACTERS."""
    sections = (section for part in text.split("\f") for section in _sections(part))
    for number, section in enumerate(sections, start=1):
        if number > limits.pages:
            raise ExtractionFailed(Failure.TOO_MANY_PAGES, f"more than {limits.pages} pages")
        yield Page(number, clean(section), method)


def decode(content: bytes) -> str:
    """Decode text of unknown encoding: UTF-8 when it is valid, else the likeliest of the encodings used here."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    wide = _utf16_without_mark(content[:_SAMPLE_BYTES])
    if wide:
        return content.decode(wide, "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    lenient = content.decode("utf-8", "replace")
    if lenient.count(_REPLACED) * _VALID_PER_FAULT <= sum(character > "\x7f" for character in lenient):
        return lenient.replace(_REPLACED, "")
    from charset_normalizer import from_bytes  # nearly no file needs it, and each has a process of its own

    best = from_bytes(content[:_SAMPLE_BYTES], cp_isolation=_CANDIDATES).best()
    return content.decode(best.encoding if best else "cp1252", "replace")


def _utf16_without_mark(sample: bytes) -> str:
    """Return the UTF-16 encoding of a text that does not say so, else ''.

    Its Arabic is valid UTF-8, too: every other byte is a control character (U+06xx, and U+00xx for spaces).
    """
    low, high = (sum(map(sample[start::2].count, _UTF16_HIGH_BYTES)) for start in (0, 1))
    if max(low, high) < _UTF16_SHARE * len(sample) / 2 or min(low, high) > max(low, high) / 4:
        return ""
    return "utf-16-be" if low > high else "utf-16-le"


def _sections(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > PAGE_CHARACTERS:
        end = _last_break(text, start, start + PAGE_CHARACTERS)
        yield text[start:end]
        start = end
    yield text[start:]


def _last_break(text: str, start: int, limit: int) -> int:
    """Return the best place to part a text before `limit`: a blank line, else a line end, else a space."""
    half = start + (limit - start) // 2
    breaks = [found.end() for found in _PARAGRAPH_END.finditer(text, half, limit)]
    if breaks:
        return breaks[-1]
    return max(text.rfind("\n", half, limit), text.rfind(" ", half, limit), -1) + 1 or limit
