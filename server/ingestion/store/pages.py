"""Pages as read, their verdicts, and the search for pages that nearly repeat them in other documents."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.ingestion.duplicates import StoredPage
from server.ingestion.extraction.page import Method, Page
from server.ingestion.judging import JudgedPage
from server.text.nearduplicate import CANDIDATE_DISTANCE, LONG_TEXT_WORDS, signed

READER_VERSION = 1
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
_SAME_BAND = " OR ".join(
    f"((page.fingerprint >> {shift}) & 65535) = ((asked.fingerprint >> {shift}) & 65535)" for shift in (48, 32, 16, 0)
)
_ASKED = (
    "unnest(CAST(:numbers AS int[]), CAST(:fingerprints AS bigint[]), CAST(:words AS int[]))"
    " AS asked (number, fingerprint, words)"
)
_ELIGIBLE = (
    "page.document_id <> :document_id AND page.verdict = 'indexed' AND page.fingerprint IS NOT NULL"
    " AND document.namespace = :namespace"
    " AND (document.visibility = 'shared' OR document.owner_id = CAST(:owner_id AS uuid))"
)
# Two fingerprints at most three bits apart share a band, which an index finds.
NEAR_LONG = text(
    "SELECT asked.number, page.document_id, page.number AS near_number, page.text"
    f" FROM {_ASKED} JOIN page ON ({_SAME_BAND}) JOIN document ON document.id = page.document_id"
    f" WHERE {_ELIGIBLE} AND bit_count(CAST(page.fingerprint # asked.fingerprint AS bit(64))) <= :distance"
)
# Texts too short for that distance are compared with all of about their length: of the namespace's pages only the
# fingerprints are gone through, and texts are read for the few that are near.
NEAR_SHORT = text(
    "WITH shelf AS MATERIALIZED ("
    " SELECT page.document_id, page.number, page.fingerprint, page.words"
    f" FROM page JOIN document ON document.id = page.document_id WHERE {_ELIGIBLE}"
    " AND page.words BETWEEN :fewest_words AND :most_words"
    "), near AS MATERIALIZED ("
    " SELECT asked.number, shelf.document_id, shelf.number AS near_number,"
    " row_number() OVER (PARTITION BY asked.number"
    " ORDER BY bit_count(CAST(shelf.fingerprint # asked.fingerprint AS bit(64)))) AS place"
    f" FROM {_ASKED} JOIN shelf"
    " ON bit_count(CAST(shelf.fingerprint # asked.fingerprint AS bit(64))) <= :distance"
    ") SELECT near.number, near.document_id, near.near_number, page.text FROM near"
    " JOIN page ON page.document_id = near.document_id AND page.number = near.near_number"
    " WHERE place <= :most ORDER BY near.number, place"
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
        long = [page for page in compared if page.words >= LONG_TEXT_WORDS]
        short = [page for page in compared if page.words < LONG_TEXT_WORDS]
        shared: dict[str, object] = {
            "document_id": document_id,
            "owner_id": owner_id,
            "namespace": namespace,
            "distance": CANDIDATE_DISTANCE,
        }
        rows: list[Row[Any]] = []
        if long:
            rows += (await connection.execute(NEAR_LONG, shared | _asked(long))).all()
        if short:
            lengths = [page.words for page in short]
            limits = {
                "fewest_words": int(min(lengths) / _LENGTH_RATIO),
                "most_words": int(max(lengths) * _LENGTH_RATIO),
                "most": _MOST_CANDIDATES,
            }
            rows += (await connection.execute(NEAR_SHORT, shared | _asked(short) | limits)).all()
        found: dict[int, list[StoredPage]] = {}
        for row in rows:
            found.setdefault(row.number, []).append(StoredPage(row.document_id, row.near_number, row.text))
        return found

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


def _asked(pages: Sequence[JudgedPage]) -> dict[str, object]:
    return {
        "numbers": [page.number for page in pages],
        "fingerprints": [signed(page.fingerprint or 0) for page in pages],
        "words": [page.words for page in pages],
    }
