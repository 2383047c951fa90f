"""Running heads, feet and page numbers: what stands on every page and belongs to none. Pure and careful.

A line goes only when it repeats at the same end of most pages of a long enough document, or when it is a page number
that counts with the pages. Everything else stays.
"""

import re
from collections import Counter
from collections.abc import Sequence

MIN_PAGES = 4
"""With fewer pages a repeated line may as well be a title."""
MIN_SHARE = 0.6
MAX_CHARACTERS = 90
EDGE_LINES = 2

_DIGITS = re.compile(r"\d+")
_PAGE_NUMBER = re.compile(
    r"^(?:[-–—•|\s]*(?:p(?:age|\.)?|صفحة|ص)?\s*\.?\s*)?(\d{1,4})(?:\s*(?:/|sur|من|de|of)\s*\d{1,4})?[-–—•|.\s]*$",
    re.IGNORECASE,
)


def strip(pages: Sequence[str]) -> list[str]:
    """Return the pages without running heads and feet and without page numbers, in the same order."""
    lines = [page.split("\n") for page in pages]
    for from_top in (True, False):
        for _ in range(EDGE_LINES):
            _strip_edge(lines, from_top=from_top)
    return ["\n".join(page).strip("\n") for page in lines]


def _strip_edge(pages: list[list[str]], *, from_top: bool) -> None:
    """Remove the outermost line of each page where it is furniture."""
    edges = [_edge(page, from_top=from_top) for page in pages]
    numbers = _counting(edges) if len(pages) > 1 else [not from_top and edges == ["1"]]
    forms = [_forms(edge, place) for place, edge in enumerate(edges)]
    repeated = _repeated(forms)
    for page, edge, is_number, own_forms in zip(pages, edges, numbers, forms, strict=True):
        if edge and (is_number or own_forms & repeated):
            _drop(page, from_top=from_top)


def _edge(page: Sequence[str], *, from_top: bool) -> str:
    ordered = page if from_top else reversed(page)
    return next((line.strip() for line in ordered if line.strip()), "")


def _drop(page: list[str], *, from_top: bool) -> None:
    places = range(len(page)) if from_top else range(len(page) - 1, -1, -1)
    del page[next(place for place in places if page[place].strip())]


def _counting(edges: Sequence[str]) -> list[bool]:
    """Say for each edge line whether it is a page number in step with its page.

    Printed numbers may start anywhere (a chapter of a book), so the usual distance to the page's place decides.
    """
    found = [_PAGE_NUMBER.match(edge) for edge in edges]
    offsets = [int(match.group(1)) - place if match else None for place, match in enumerate(found)]
    usual = Counter(offset for offset in offsets if offset is not None).most_common(1)
    if not usual or usual[0][1] < max(2, MIN_SHARE * len(edges)):
        return [False] * len(edges)
    return [offset == usual[0][0] for offset in offsets]


def _repeated(edges: Sequence[set[str]]) -> set[str]:
    """Return the forms that stand at this edge of most pages."""
    if len(edges) < MIN_PAGES:
        return set()
    times = Counter(form for forms in edges for form in forms)
    return {form for form, count in times.items() if count >= max(MIN_PAGES, MIN_SHARE * len(edges))}


def _forms(line: str, place: int) -> set[str]:
    """Return a line as it is, and with its numbers less the page's place: a counter in a running head stands still."""
    if not line or len(line) > MAX_CHARACTERS or line.isdigit():
        return set()
    text = " ".join(line.split())
    return {text, _DIGITS.sub(lambda number: f"#{int(number[0]) - place}", text)}
