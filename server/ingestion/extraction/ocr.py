"""Scanned pages: Tesseract as a child process, its words and how sure it is of them."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

PAGE_TIMEOUT_SECONDS = 120.0
_LANGUAGES = {"fr": "fra", "ar": "ara+fra", "mey": "ara+fra"}
_BOTH = "ara+fra"
_ENVIRONMENT = {"OMP_THREAD_LIMIT": "1", "LC_ALL": "C.UTF-8"}
"""One thread: Tesseract's own threads only fight each other (25 s instead of 3 s for a page)."""
_WORD_LEVEL = "5"


class Unreadable(Exception):
    """Tesseract is not installed, gave up on the page or took too long."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """The text of an image, and the mean confidence of its characters, 0 to 100."""

    text: str
    confidence: float


def available() -> bool:
    """Say whether Tesseract is installed."""
    return shutil.which("tesseract") is not None


def recognise(image: bytes, language: str = "") -> Recognised:
    """Read an image file (PGM, PNG, …). Without a language both scripts are tried. Raises Unreadable."""
    program = shutil.which("tesseract")
    if program is None:
        raise Unreadable("tesseract is not installed")
    command = [program, "-", "-", "-l", _LANGUAGES.get(language, _BOTH), "tsv"]
    try:
        done = subprocess.run(
            command, input=image, capture_output=True, timeout=PAGE_TIMEOUT_SECONDS, check=True, env=_ENVIRONMENT
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise Unreadable(type(error).__name__) from error
    return parse_tsv(done.stdout.decode("utf-8", "replace"))


def parse_tsv(table: str) -> Recognised:
    """Turn Tesseract's table of words into lines, a blank line between paragraphs."""
    words = list(_words(table))
    paragraphs = (
        "\n".join(" ".join(word.text for word in line) for _, line in groupby(paragraph, lambda word: word.line))
        for _, paragraph in groupby(words, lambda word: word.line[:2])
    )
    characters = sum(len(word.text) for word in words)
    confidence = sum(word.confidence * len(word.text) for word in words) / characters if characters else 0.0
    return Recognised("\n\n".join(paragraphs), confidence)


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    confidence: float
    line: tuple[str, str, str]


def _words(table: str) -> Iterator[_Word]:
    for row in table.splitlines()[1:]:
        cells = row.split("\t")
        if len(cells) == 12 and cells[0] == _WORD_LEVEL and cells[11].strip() and float(cells[10]) >= 0:
            yield _Word(cells[11].strip(), float(cells[10]), (cells[2], cells[3], cells[4]))
