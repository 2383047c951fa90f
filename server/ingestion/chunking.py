"""How a page becomes chunks: token budgets per language, clean cuts, ids that a second run makes again.

A chunk never begins or ends inside a character (a letter with its marks), and inside a word only when one word is
longer than the whole budget. Where the budget allows, it ends and begins with a sentence.
"""

import hashlib
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from server.text import tokens
from server.text.language import Language

MIN_FILL = 0.75
"""A chunk ends early, at a sentence, only when at least this share of its budget is used."""
MIN_OVERLAP = 0.5
"""The overlap shrinks, so that the next chunk begins with a sentence, to no less than this share of it."""

_SENTENCE_START = re.compile(r"(?:[.!?؟۔…][»”\"')\]]*|\n)\s+(?=\S)|\n(?=\S)")


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """The budget of a chunk and what it repeats of the one before, in tokens."""

    tokens: int
    overlap_tokens: int


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a page: characters `start` to `end` (exclusive) hold exactly `token_count` tokens."""

    start: int
    end: int
    token_count: int


@dataclass(frozen=True, slots=True)
class PageText:
    """A page as it goes into the corpus; pages count from 1."""

    number: int
    text: str
    language: Language


@dataclass(frozen=True, slots=True)
class TextChunk:
    """A chunk of a page with its place and identity. `index` counts from 0 within the page."""

    id: str
    page: int
    index: int
    start: int
    end: int
    text: str
    token_count: int
    language: Language
    content_hash: str


def chunk_id(file_id: UUID, page: int, index: int) -> str:
    """Return the id that every run gives this place of this file: 64 hexadecimal digits."""
    return hashlib.sha256(f"{file_id}:{page}:{index}".encode()).hexdigest()


def content_hash(text: str) -> str:
    """Return the hash that tells whether a chunk's text changed: 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def chunk_pages(file_id: UUID, pages: Iterable[PageText], sizes: Mapping[Language, ChunkSize]) -> Iterator[TextChunk]:
    """Yield the chunks of all pages in reading order. Languages without a size of their own use the French one."""
    for page in pages:
        size = sizes.get(page.language, sizes[Language.FRENCH])
        for index, span in enumerate(split(page.text, size)):
            text = page.text[span.start : span.end]
            yield TextChunk(
                id=chunk_id(file_id, page.number, index),
                page=page.number,
                index=index,
                start=span.start,
                end=span.end,
                text=text,
                token_count=span.token_count,
                language=page.language,
                content_hash=content_hash(text),
            )


def split(text: str, size: ChunkSize) -> list[Span]:
    """Cut a page into overlapping spans that cover everything but white space between them."""
    return list(_Splitter(text, size).spans())


class _Splitter:
    """One page being cut. Tokens are counted once for the page; a cut only recounts the words next to it."""

    def __init__(self, text: str, size: ChunkSize) -> None:
        self._text = text
        self._size = size
        self._ends: list[int] = tokens.boundaries(text)[1:].tolist()
        self._length = len(text.rstrip())

    def spans(self) -> Iterator[Span]:
        start = self._skip_space(0)
        reached = 0
        while start < self._length:
            span = self._fit(start)
            if span.end <= reached:
                # The overlap took the whole budget: go on without it.
                span = self._fit(self._skip_space(reached))
            yield span
            reached = span.end
            start = self._next_start(span) if reached < self._length else reached

    def _fit(self, start: int) -> Span:
        """Return the longest clean span from `start` whose own tokens are within the budget."""
        budget = self._size.tokens
        while True:
            end = self._cut(start, budget)
            count = self._count(start, end)
            if count <= self._size.tokens or budget <= 1:
                return Span(start, end, count)
            budget -= max(1, count - self._size.tokens)

    def _cut(self, start: int, budget: int) -> int:
        limit = self._limit(start, budget)
        if limit >= self._length:
            return self._length
        floor = max(start + 1, self._limit(start, int(budget * MIN_FILL)))
        return (
            self._last_sentence_end(floor, limit)
            or self._last_word_end(start, limit)
            or self._whole_character(start, limit)
        )

    def _limit(self, start: int, budget: int) -> int:
        """Return the character that `budget` tokens from `start` reach."""
        first = bisect_right(self._ends, start)
        last = first + budget - 1
        return self._ends[last] if last < len(self._ends) else len(self._text)

    def _last_sentence_end(self, floor: int, limit: int) -> int:
        """Return the last end of a sentence in [floor, limit], or 0."""
        found = 0
        for match in _SENTENCE_START.finditer(self._text, floor, min(limit + 1, len(self._text))):
            found = match.end()
        while found and self._text[found - 1].isspace():
            found -= 1
        return found

    def _last_word_end(self, start: int, limit: int) -> int:
        """Return the last end of a word in (start, limit], or 0."""
        for end in range(limit, start, -1):
            if self._text[end].isspace() and not self._text[end - 1].isspace():
                return end
        return 0

    def _whole_character(self, start: int, limit: int) -> int:
        """Return the last place up to `limit` between two characters, at least one character after `start`."""
        end = max(limit, start + 1)
        while end > start + 1 and end < len(self._text) and _joins(self._text[end]):
            end -= 1
        if end == start + 1:
            while end < len(self._text) and _joins(self._text[end]):
                end += 1
        return end

    def _next_start(self, span: Span) -> int:
        """Return where the next chunk begins: within the overlap if a sentence or a word does, else right after."""
        overlap = self._size.overlap_tokens
        last = bisect_right(self._ends, span.end) - 1
        earliest = max(span.start + 1, self._ends[max(0, last - overlap)])
        latest = self._ends[max(0, last - int(overlap * MIN_OVERLAP))]
        for match in _SENTENCE_START.finditer(self._text, max(0, earliest - 2), latest + 1):
            if match.end() >= earliest:
                return match.end()
        for begins in range(earliest, span.end):
            if self._text[begins - 1].isspace() and not self._text[begins].isspace():
                return begins
        return self._skip_space(span.end)

    def _count(self, start: int, end: int) -> int:
        """Count the tokens of a span exactly: recount at both ends, take the page's own tokens between.

        A space followed by a letter always begins a new word for the tokenizer, whatever stands before it; between
        the first and the last such place the span and the page have the same tokens.
        """
        head = self._text.find(" ", start + 1, end)
        while head > 0 and not self._resyncs(head):
            head = self._text.find(" ", head + 1, end)
        tail = end
        while tail > head and not self._resyncs(tail):
            tail = self._text.rfind(" ", head, tail)
        if head < 0 or tail <= head:
            return tokens.count(self._text[start:end])
        middle = bisect_right(self._ends, tail) - bisect_right(self._ends, head)
        return _count_words(self._text[start:head]) + middle + (_count_words(self._text[tail:end]) if tail < end else 0)

    def _resyncs(self, at: int) -> bool:
        text = self._text
        return text[at : at + 1] == " " and text[at + 1 : at + 2].isalpha() and not text[at - 1].isspace()

    def _skip_space(self, start: int) -> int:
        while start < self._length and self._text[start].isspace():
            start += 1
        return start


@lru_cache(maxsize=8_192)
def _count_words(text: str) -> int:
    """Count the tokens at one end of a chunk: mostly the same few words, with which sentences begin."""
    return tokens.count(text)


def _joins(character: str) -> bool:
    """Say whether this code point belongs to the character before it (vowel mark, accent, joiner, selector)."""
    return unicodedata.category(character) in ("Mn", "Mc", "Me") or character in "\u200c\u200d"
