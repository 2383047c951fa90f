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
    repeated = _repeated(edges)
    for page, edge, is_number in zip(pages, edges, numbers, strict=True):
        if edge and (is_number or _form(edge) in repeated):
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


def _repeated(edges: Sequence[str]) -> set[str]:
    """Return the forms that stand at this edge of most pages."""
    if len(edges) < MIN_PAGES:
        return set()
    forms = Counter(_form(edge) for edge in edges if edge and len(edge) <= MAX_CHARACTERS)
    return {form for form, times in forms.items() if times >= max(MIN_PAGES, MIN_SHARE * len(edges)) and form != "#"}


def _form(line: str) -> str:
    return _DIGITS.sub("#", " ".join(line.split()))
