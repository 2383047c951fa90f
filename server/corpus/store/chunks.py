"""SQL of chunks: writing them by generation, reading them, and full-text search."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.caller import Caller
from server.corpus.lexemes import Indexed
from server.corpus.passage import Chunk, CorpusFilter, Hit
from server.database.session import Session
from server.text.analysis import ANALYSIS_VERSION
from server.text.language import Language

COLUMNS = (
    "chunk.id, chunk.document_id, document.title AS document_title, chunk.page, chunk.chunk_index, chunk.text,"
    " chunk.token_count, chunk.language, chunk.start_at, chunk.end_at, chunk.content_hash, chunk.namespace,"
    " chunk.subject, chunk.grade, document.owner_id, chunk.private_to IS NOT NULL AS private"
)
FROM = "FROM chunk JOIN document ON document.id = chunk.document_id"
MATCHES = (
    "(:namespace = '' OR chunk.namespace = :namespace) AND (:subject = '' OR chunk.subject = :subject)"
    " AND (:grade = '' OR chunk.grade = :grade) AND (:language = '' OR chunk.language = :language)"
    " AND (cardinality(CAST(:document_ids AS uuid[])) = 0 OR chunk.document_id = ANY (CAST(:document_ids AS uuid[])))"
)
# An unchanged chunk only gets the new generation, in place; the trigger sees no change in it.
WRITE = text(
    "INSERT INTO chunk (id, document_id, page, chunk_index, start_at, end_at, token_count, term_count, language,"
    " namespace, subject, grade, private_to, content_hash, generation, analyser_version, terms, text)"
    " SELECT draft.id, document.id, page, chunk_index, start_at, end_at, token_count, term_count, draft.language,"
    " namespace, subject, grade, CASE WHEN visibility = 'private' THEN owner_id END, content_hash, :generation,"
    " :analyser_version, CAST(terms AS tsvector), draft.text"
    " FROM document CROSS JOIN unnest(CAST(:ids AS text[]), CAST(:pages AS integer[]), CAST(:indexes AS integer[]),"
    " CAST(:starts AS integer[]), CAST(:ends AS integer[]), CAST(:token_counts AS integer[]),"
    " CAST(:term_counts AS integer[]), CAST(:languages AS text[]), CAST(:hashes AS text[]), CAST(:terms AS text[]),"
    " CAST(:texts AS text[])) AS draft (id, page, chunk_index, start_at, end_at, token_count, term_count, language,"
    " content_hash, terms, text) WHERE document.id = :document_id"
    " ON CONFLICT (id) DO UPDATE SET start_at = excluded.start_at, end_at = excluded.end_at,"
    " token_count = excluded.token_count, term_count = excluded.term_count, language = excluded.language,"
    " namespace = excluded.namespace, subject = excluded.subject, grade = excluded.grade,"
    " private_to = excluded.private_to, content_hash = excluded.content_hash, generation = excluded.generation,"
    " analyser_version = excluded.analyser_version, terms = excluded.terms, text = excluded.text,"
    " updated_at = CASE WHEN chunk.content_hash = excluded.content_hash THEN chunk.updated_at ELSE now() END"
)
OLDER = text("SELECT id FROM chunk WHERE document_id = :document_id AND generation < :generation ORDER BY id")
DELETE_OLDER = text("DELETE FROM chunk WHERE document_id = :document_id AND generation < :generation")
READ = (
    "SELECT id, document_id, document_title, page, chunk_index, text, token_count, language, start_at, end_at,"
    " content_hash, namespace, subject, grade, owner_id, private FROM read_chunks($1)"
)
OF_DOCUMENT = text(
    f"SELECT {COLUMNS} {FROM} WHERE chunk.document_id = :document_id ORDER BY chunk.page, chunk.chunk_index"
)
# Ids are hashes, so a range of them is a sample; it begins anywhere and goes round at the end.
SAMPLE = text(
    f"(SELECT {COLUMNS} {FROM} WHERE chunk.id >= :start AND {MATCHES} ORDER BY chunk.id LIMIT :limit)"
    f" UNION ALL (SELECT {COLUMNS} {FROM} WHERE chunk.id < :start AND {MATCHES} ORDER BY chunk.id LIMIT :limit)"
    " LIMIT :limit"
)
AFTER = text(f"SELECT {COLUMNS} {FROM} WHERE chunk.id > :after AND {MATCHES} ORDER BY chunk.id LIMIT :limit")
COUNT = text(f"SELECT count(*) FROM chunk WHERE {MATCHES}")
# From one language to the next in the index: any other form reads all chunks to find that a language is not there.
LANGUAGES = text(
    "WITH RECURSIVE held (language) AS ("
    " (SELECT language FROM chunk ORDER BY language LIMIT 1)"
    " UNION ALL SELECT (SELECT chunk.language FROM chunk WHERE chunk.language > held.language"
    "  ORDER BY chunk.language LIMIT 1) FROM held WHERE held.language IS NOT NULL"
    ") SELECT language FROM held WHERE language IS NOT NULL"
)
NAMESPACES = text("SELECT namespace, count(*) AS chunks FROM chunk GROUP BY namespace ORDER BY namespace")
# One round trip for caller and search: an argument of the function reads who is calling, so that is set before.
SEARCH = (
    "SELECT hit.chunk_id, hit.score"
    " FROM (SELECT set_config('app.user_id', $1, true) || set_config('app.role', $2, true) AS said) AS who"
    " CROSS JOIN LATERAL search_chunks($3, left(who.said, 0) || $4, $5, $6, $7, $8, $9, $10) AS hit"
)
STATE = text("SELECT coalesce(sum(writes), 0) AS writes, coalesce(sum(removals), 0) AS removals FROM corpus_size")
MERGE = text("SELECT merge_corpus_statistics()")

MOST_CANDIDATES = 500
"""Chunks with a rare term that are ranked per search, and those with two common ones: keeps 99.9 % of the best ten of
20,000 chunks, as far as terms are as common there as in the development sets."""


class ChunkStore:
    """Reads and writes the table `chunk`."""

    async def write(
        self, connection: AsyncConnection, document_id: UUID, generation: int, indexed: Sequence[Indexed]
    ) -> None:
        """Insert chunks, or bring stored ones of the same id up to date."""
        drafts = [each.draft for each in indexed]
        columns = {
            "ids": [draft.id for draft in drafts],
            "pages": [draft.page for draft in drafts],
            "indexes": [draft.index for draft in drafts],
            "starts": [draft.start for draft in drafts],
            "ends": [draft.end for draft in drafts],
            "token_counts": [draft.token_count for draft in drafts],
            "term_counts": [each.lexemes.term_count for each in indexed],
            "languages": [draft.language for draft in drafts],
            "hashes": [draft.content_hash for draft in drafts],
            "terms": [each.lexemes.literal for each in indexed],
            "texts": [draft.text for draft in drafts],
        }
        run = {"document_id": document_id, "generation": generation, "analyser_version": ANALYSIS_VERSION}
        await connection.execute(WRITE, columns | run)

    async def older_ids(self, connection: AsyncConnection, document_id: UUID, generation: int) -> list[str]:
        """Return the ids of a document's chunks that a generation did not write."""
        asked = {"document_id": document_id, "generation": generation}
        return list((await connection.execute(OLDER, asked)).scalars())

    async def delete_older(self, connection: AsyncConnection, document_id: UUID, generation: int) -> None:
        """Delete them."""
        await connection.execute(DELETE_OLDER, {"document_id": document_id, "generation": generation})

    async def read(self, session: Session, ids: Sequence[str]) -> list[Chunk]:
        """Return the chunks that exist, whoever may see them, in no order."""
        return [chunk_of(row) for row in await session.rows(READ, (list(ids),))]

    async def of_document(self, connection: AsyncConnection, document_id: UUID) -> list[Chunk]:
        """Return a document's chunks in reading order."""
        rows = await connection.execute(OF_DOCUMENT, {"document_id": document_id})
        return [chunk_of(row) for row in rows]

    async def sample(self, connection: AsyncConnection, where: CorpusFilter, limit: int, start: str) -> list[Chunk]:
        """Return up to `limit` chunks from anywhere; `start` (64 hex digits) decides which."""
        asked = filter_binds(where) | {"limit": limit, "start": start}
        return [chunk_of(row) for row in (await connection.execute(SAMPLE, asked))]

    async def after(self, connection: AsyncConnection, where: CorpusFilter, after: str, limit: int) -> list[Chunk]:
        """Return chunks in order of their ids, after one: for going through all of them in batches."""
        asked = filter_binds(where) | {"limit": limit, "after": after}
        return [chunk_of(row) for row in (await connection.execute(AFTER, asked))]

    async def count(self, connection: AsyncConnection, where: CorpusFilter) -> int:
        """Count chunks."""
        return int((await connection.execute(COUNT, filter_binds(where))).scalar_one())

    async def languages(self, connection: AsyncConnection) -> frozenset[Language]:
        """Return the languages that any chunk is in."""
        return frozenset(map(Language, (await connection.execute(LANGUAGES)).scalars()))

    async def namespaces(self, connection: AsyncConnection) -> dict[str, int]:
        """Return the number of chunks of each namespace."""
        return {row.namespace: int(row.chunks) for row in await connection.execute(NAMESPACES)}

    async def search(
        self, session: Session, who: Caller, query: Sequence[str], where: CorpusFilter, limit: int
    ) -> list[Hit]:
        """Return the best chunks that a caller may see for a query's lexemes by BM25, best first."""
        language, documents = where.language or "", list(where.document_ids)
        asked = (list(query), where.namespace, where.subject, where.grade, language, documents, MOST_CANDIDATES, limit)
        return [Hit(*row) for row in await session.rows(SEARCH, (str(who.user_id or ""), who.role.value, *asked))]

    async def state(self, connection: AsyncConnection) -> tuple[int, int]:
        """Return how many changes, and how many that outdate copies, the corpus has seen; both only ever grow."""
        row = (await connection.execute(STATE)).one()
        return int(row.writes), int(row.removals)

    async def merge_statistics(self, connection: AsyncConnection) -> int:
        """Add up what writers appended to the ranking statistics; returns how many terms had several rows."""
        return int((await connection.execute(MERGE)).scalar_one())


def filter_binds(where: CorpusFilter) -> dict[str, object]:
    """Return a filter as the binds of `MATCHES`."""
    return {
        "namespace": where.namespace,
        "subject": where.subject,
        "grade": where.grade,
        "language": where.language or "",
        "document_ids": list(where.document_ids),
    }


def chunk_of(row: Sequence[Any]) -> Chunk:
    """Return a row that begins with `COLUMNS`, which stand in the order of a chunk's fields, as a chunk."""
    identity, document, title, page, index, said, tokens, language, start, end, hashed, space, subject, grade, *rest = (
        row
    )
    owner_id, private, *_ = rest
    return Chunk(
        identity, document, title, page, index, said, tokens, Language(language), start, end, hashed, space, subject,
        grade, owner_id, private,
    )  # fmt: skip
