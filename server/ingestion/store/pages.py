"""Pages as read, their verdicts, and the search for pages that nearly repeat them in other documents."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.ingestion.duplicates import StoredPage
from server.ingestion.extraction.page import Method, Page
from server.ingestion.judging import DocumentPage, JudgedPage, PageSelection, PageVerdict
from server.text.language import Language
from server.text.nearduplicate import candidates, signed

READER_VERSION = 2
"""Raise it when extraction changes: pages of an older reader are read again."""
_LENGTH_RATIO = 1.5
"""Pages whose lengths differ more than this cannot share enough of their text."""
_MOST_CANDIDATES = 5

ADD = text(
    "INSERT INTO page (document_id, number, file_sha256, reader_version, text, method, confidence)"
    " SELECT :document_id, number, :sha256, :version, text, method, confidence FROM unnest(CAST(:numbers AS int[]),"
    " CAST(:texts AS text[]), CAST(:methods AS text[]), CAST(:confidences AS real[]))"
    " AS found (number, text, method, confidence)"
    " ON CONFLICT (document_id, number) DO UPDATE SET file_sha256 = excluded.file_sha256,"
    " reader_version = excluded.reader_version, text = excluded.text, method = excluded.method,"
    " confidence = excluded.confidence, verdict = 'unread', reason = '', fingerprint = NULL"
)
READ = text(
    "SELECT number, text, method, confidence FROM page"
    " WHERE document_id = :document_id AND file_sha256 = :sha256 AND reader_version = :version ORDER BY number"
)
DISCARD = text(
    "DELETE FROM page WHERE document_id = :document_id AND (file_sha256 <> :sha256 OR reader_version <> :version)"
)
JUDGE = text(
    "UPDATE page SET verdict = judged.verdict, reason = judged.reason, quality = judged.quality,"
    " language = judged.language, words = judged.words, fingerprint = judged.fingerprint,"
    " duplicate_document_id = CASE WHEN judged.duplicate IS NOT NULL THEN page.document_id END,"
    " duplicate_number = judged.duplicate"
    " FROM unnest(CAST(:numbers AS int[]), CAST(:verdicts AS text[]), CAST(:reasons AS text[]),"
    " CAST(:qualities AS real[]), CAST(:languages AS text[]), CAST(:words AS int[]), CAST(:fingerprints AS bigint[]),"
    " CAST(:duplicates AS int[])) AS judged (number, verdict, reason, quality, language, words, fingerprint, duplicate)"
    " WHERE page.document_id = :document_id AND page.number = judged.number"
)
LINK = text(
    "UPDATE page SET duplicate_document_id = :other_id, duplicate_number = :other_number"
    " WHERE document_id = :document_id AND number = :number"
)
LIST = text(
    "SELECT number, nullif(verdict, 'unread') AS verdict, reason, method, confidence, coalesce(quality, 0) AS quality,"
    " coalesce(language, 'other') AS language, words, duplicate_document_id, duplicate_number FROM page"
    " WHERE document_id = :document_id AND number > :after AND CASE CAST(:selection AS text)"
    " WHEN 'left_out' THEN verdict NOT IN ('unread', 'indexed')"
    " WHEN 'flagged' THEN verdict = 'review' OR (verdict = 'indexed' AND reason <> '')"
    " WHEN 'repeated' THEN duplicate_document_id IS NOT NULL ELSE true END"
    " ORDER BY number LIMIT :limit"
)
# Which pages are near is found here, by fingerprints alone, which come as one value: PostgreSQL takes a hundred times
# as long to compare two of them, and uses no index on their bits behind row-level security.
SHELF = text(
    "SELECT string_agg(uuid_send(page.document_id) || int4send(page.number) || int8send(page.fingerprint), '')"
    " FROM page JOIN document ON document.id = page.document_id"
    " WHERE page.document_id <> :document_id AND page.verdict = 'indexed' AND page.fingerprint IS NOT NULL"
    " AND page.words BETWEEN :fewest_words AND :most_words AND document.namespace = :namespace"
    " AND (document.visibility = 'shared' OR document.owner_id = CAST(:owner_id AS uuid))"
)
_SHELVED = np.dtype([("document", "V16"), ("number", ">i4"), ("fingerprint", ">u8")])
TEXTS = text(
    "SELECT place, page.document_id, page.number, page.text"
    " FROM unnest(CAST(:documents AS uuid[]), CAST(:numbers AS int[])) WITH ORDINALITY AS near (id, number, place)"
    " JOIN page ON page.document_id = near.id AND page.number = near.number"
)


class PageStore:
    """Rows of `page`."""

    async def add(self, connection: AsyncConnection, document_id: UUID, sha256: str, pages: Sequence[Page]) -> None:
        """Keep pages as read from the file with this hash."""
        await connection.execute(
            ADD,
            {
                "document_id": document_id,
                "sha256": sha256,
                "version": READER_VERSION,
                "numbers": [page.number for page in pages],
                "texts": [page.text for page in pages],
                "methods": [page.method.value for page in pages],
                "confidences": [page.confidence for page in pages],
            },
        )

    async def read(self, connection: AsyncConnection, document_id: UUID, sha256: str) -> list[Page]:
        """Return the pages that were read of exactly this file, in order."""
        rows = await connection.execute(READ, {"document_id": document_id, "sha256": sha256, "version": READER_VERSION})
        return [Page(row.number, row.text, Method(row.method), row.confidence) for row in rows]

    async def verdicts(
        self, connection: AsyncConnection, document_id: UUID, selection: PageSelection, after: int, limit: int
    ) -> Sequence[DocumentPage]:
        """Return what became of the pages after a number that the caller may see."""
        asked = {"document_id": document_id, "selection": selection.value, "after": after, "limit": limit}
        return [_document_page(row) for row in await connection.execute(LIST, asked)]

    async def discard_others(self, connection: AsyncConnection, document_id: UUID, sha256: str) -> None:
        """Delete pages of an earlier file or reader."""
        await connection.execute(DISCARD, {"document_id": document_id, "sha256": sha256, "version": READER_VERSION})

    async def judge(self, connection: AsyncConnection, document_id: UUID, pages: Sequence[JudgedPage]) -> None:
        """Keep the verdicts."""
        await connection.execute(
            JUDGE,
            {
                "document_id": document_id,
                "numbers": [page.number for page in pages],
                "verdicts": [page.verdict.value for page in pages],
                "reasons": [page.reason for page in pages],
                "qualities": [page.score for page in pages],
                "languages": [page.language.value for page in pages],
                "words": [page.words for page in pages],
                "fingerprints": [None if page.fingerprint is None else signed(page.fingerprint) for page in pages],
                "duplicates": [page.duplicate_of for page in pages],
            },
        )

    async def near(
        self,
        connection: AsyncConnection,
        document_id: UUID,
        owner_id: UUID | None,
        namespace: str,
        pages: Sequence[JudgedPage],
    ) -> dict[int, list[StoredPage]]:
        """Return, by page number, pages of other documents for the same readers that are worth a comparison."""
        compared = [page for page in pages if page.fingerprint is not None]
        if not compared:
            return {}
        lengths = [page.words for page in compared]
        asked = {
            "document_id": document_id,
            "owner_id": owner_id,
            "namespace": namespace,
            "fewest_words": int(min(lengths) / _LENGTH_RATIO),
            "most_words": int(max(lengths) * _LENGTH_RATIO),
        }
        shelf = np.frombuffer((await connection.execute(SHELF, asked)).scalar_one() or b"", _SHELVED)
        near = await asyncio.to_thread(_nearest, compared, shelf["fingerprint"].astype(np.uint64))
        wanted = sorted({at for places in near.values() for at in places})
        if not wanted:
            return {}
        documents = [UUID(bytes=document.tobytes()) for document in shelf["document"][wanted]]
        rows = await connection.execute(TEXTS, {"documents": documents, "numbers": shelf["number"][wanted].tolist()})
        stored = {wanted[row.place - 1]: StoredPage(row.document_id, row.number, row.text) for row in rows}
        return {number: [stored[at] for at in places if at in stored] for number, places in near.items()}

    async def link(self, connection: AsyncConnection, document_id: UUID, number: int, other: StoredPage) -> None:
        """Note that a page nearly repeats a page of another document."""
        await connection.execute(
            LINK,
            {
                "document_id": document_id,
                "number": number,
                "other_id": other.document_id,
                "other_number": other.number,
            },
        )


def _document_page(row: Row[Any]) -> DocumentPage:
    return DocumentPage(
        number=row.number,
        verdict=PageVerdict(row.verdict) if row.verdict else None,
        reason=row.reason,
        method=Method(row.method),
        confidence=row.confidence,
        score=row.quality,
        language=Language(row.language),
        words=row.words,
        repeats_document_id=row.duplicate_document_id,
        repeats_number=row.duplicate_number,
    )


def _nearest(pages: Sequence[JudgedPage], fingerprints: NDArray[np.uint64]) -> dict[int, list[int]]:
    """Return where the few fingerprints nearest to each page's own are, nearest first, for pages that have any."""
    near = {page.number: candidates(page.fingerprint or 0, fingerprints)[:_MOST_CANDIDATES] for page in pages}
    return {number: places.tolist() for number, places in near.items() if len(places)}
