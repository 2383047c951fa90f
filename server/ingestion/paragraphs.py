"""Lines of a printed page joined back into paragraphs, so that sentences are whole for search and quotes. Pure."""

import re
from collections.abc import Sequence

FULL_LINE_SHARE = 0.72
"""A line at least this long, against the page's usual full line, ran into the margin and goes on in the next."""
MIN_FULL_CHARACTERS = 30
PROSE_SHARE = 0.3
"""A page where fewer lines reach the margin is a list, a table or a set of questions: its lines stay apart."""
_ENDS = re.compile(r"[.!?؟…:;؛][»”\"')\]]*$")
_STARTS_ANEW = re.compile(
    r"^(?:[-–—•*▪◦●·#|>]|\d{1,2}\s*[.)°/-]\s*\S|[a-zA-Z]\s*[.)]\s|[أ-ي]\s*[-.)]\s|[IVX]{1,4}\s*[.)-]\s)"
)


def join_lines(text: str) -> str:
    """Return the text with wrapped lines joined by a space; headings, lists and formulas keep their own lines."""
    full = _full_length(text)
    return "\n\n".join(_paragraph(block.split("\n"), full) for block in text.split("\n\n")) if full else text


def _full_length(text: str) -> float:
    """Return the length of a line that fills the page's width, in characters; 0 when the page is no prose."""
    lengths = sorted(len(line) for line in text.split("\n") if line)
    if not lengths:
        return 0.0
    full = float(lengths[int(0.9 * (len(lengths) - 1))])
    reach = sum(length >= 0.85 * full for length in lengths)
    return full if full >= MIN_FULL_CHARACTERS and reach >= PROSE_SHARE * len(lengths) else 0.0


def _paragraph(lines: Sequence[str], full: float) -> str:
    joined: list[str] = []
    before = ""
    for line in lines:
        if joined and _goes_on(before, line, full):
            joined[-1] += " " + line
        else:
            joined.append(line)
        before = line
    return "\n".join(joined)


def _goes_on(before: str, line: str, full: float) -> bool:
    return (
        bool(line)
        and len(before) >= FULL_LINE_SHARE * full
        and not _ENDS.search(before)
        and not _STARTS_ANEW.match(line)
    )
