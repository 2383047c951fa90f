"""What extraction hands over: pages, and the reasons why a file gives none."""

from dataclasses import dataclass
from enum import StrEnum


class Method(StrEnum):
    """How a page's text was read."""

    TEXT_LAYER = "text_layer"
    REORDERED = "reordered"
    """The text layer, put from visual into reading order (right-to-left pages)."""
    OCR = "ocr"
    MARKUP = "markup"
    PLAIN = "plain"


class Failure(StrEnum):
    """Why a file could not be read."""

    EMPTY_FILE = "EMPTY_FILE"
    UNSUPPORTED_TYPE = "UNSUPPORTED_TYPE"
    ENCRYPTED = "ENCRYPTED"
    BROKEN_FILE = "BROKEN_FILE"
    TOO_MANY_PAGES = "TOO_MANY_PAGES"
    TOO_LARGE = "TOO_LARGE"
    NO_TEXT = "NO_TEXT"
    TIME_LIMIT = "TIME_LIMIT"
    MEMORY_LIMIT = "MEMORY_LIMIT"
    CRASHED = "CRASHED"


class ExtractionFailed(Exception):
    """A file could not be read. Only a crashed reader is worth another try: the same bytes break the same way."""

    def __init__(self, failure: Failure, detail: str = "") -> None:
        super().__init__(f"{failure}: {detail}" if detail else str(failure))
        self.failure = failure
        self.detail = detail

    @property
    def transient(self) -> bool:
        """Say whether another try may help."""
        return self.failure is Failure.CRASHED


@dataclass(frozen=True, slots=True)
class Page:
    """One page as read, lines still as they stand on it. Pages count from 1; confidence is 0 to 100, OCR only."""

    number: int
    text: str
    method: Method
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading one file may cost."""

    pages: int = 2_000
    characters: int = 20_000_000
    memory_bytes: int = 2 * 1024**3
    timeout_seconds: float = 900.0
