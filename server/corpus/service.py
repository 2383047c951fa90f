"""The library's use cases: search and read it, keep documents, and write what ingestion makes of them.

Reading methods open their own transaction as the caller. Writing methods take the caller's open one, so that a
document changes together with the job that changes it.
"""

import asyncio
import secrets
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import structlog

from server import caller
from server.cache.flight import FlightCache, OnEvent, unheard
from server.corpus import lexemes
from server.corpus.lexemes import Indexed
from server.corpus.passage import (
    Chunk,
    ChunkDraft,
    CorpusFilter,
    Document,
    DocumentFilter,
    Hit,
    NewDocument,
    Visibility,
    may_see,
)
from server.corpus.store import ChunkStore, DocumentStore
from server.database.pages import Page, cut, page_size, position
from server.database.pool import Connection, Database
from server.refusal import DeadlineExceeded, NotFound
from server.text.language import Language

CHUNK_CACHE_SIZE = 20_000
CHUNK_TTL_SECONDS = 3_600
STATE_TTL_SECONDS = 1.0
"""How long after another process's change a copy that it outdates may still be served."""

log = structlog.get_logger(__name__)


class CorpusService:
    """Documents and chunks. Vectors and their references are `server.corpus.vectors.VectorRefs`."""

    def __init__(
        self,
        database: Database,
        *,
        state_ttl_seconds: float = STATE_TTL_SECONDS,
        on_cache_event: OnEvent = unheard,
    ) -> None:
        """`on_cache_event(name, hit, times)` hears of every look into the cache of texts."""
        self._database = database
        self._documents = DocumentStore()
        self._chunks = ChunkStore()
        self._texts: FlightCache[tuple[int, str], Chunk] = FlightCache(
            CHUNK_CACHE_SIZE, CHUNK_TTL_SECONDS, "chunk", on_event=on_cache_event
        )
        self._states: FlightCache[None, tuple[int, int]] = FlightCache(1, state_ttl_seconds, "corpus_state")

    async def search_text(self, query: str, where: CorpusFilter, limit: int) -> list[Hit]:
        """Return up to `limit` chunks that the caller may see, best first by BM25 over the query's terms."""
        asked = lexemes.of_query(query)
        if not asked:
            return []
        async with self._database.session() as session:
            return await self._chunks.search(session, caller.current(), asked, where, limit)

    async def chunks(self, ids: Sequence[str]) -> dict[str, Chunk]:
        """Return the chunks that exist and that the caller may see, in the order asked for.

        Texts are kept for an hour, for all callers; who may see one is asked anew each time.
        """
        who = caller.current()
        _, removals = await self._state()
        found = {chunk.id: chunk for chunk in self._texts.kept((removals, chunk_id) for chunk_id in ids).values()}
        missing = [chunk_id for chunk_id in ids if chunk_id not in found]
        if missing:
            for chunk in await self._read(missing):
                self._texts.put((removals, chunk.id), chunk)
                found[chunk.id] = chunk
        return {chunk_id: found[chunk_id] for chunk_id in ids if chunk_id in found and may_see(who, found[chunk_id])}

    async def sample(self, where: CorpusFilter, limit: int) -> list[Chunk]:
        """Return up to `limit` chunks picked at random from those the caller may see."""
        async with self._database.transaction() as connection:
            return await self._chunks.sample(connection, where, limit, secrets.token_hex(32))

    async def languages(self) -> frozenset[Language]:
        """Return the languages in which there is a chunk that the caller may see."""
        async with self._database.transaction() as connection:
            return await self._chunks.languages(connection)

    async def generation(self) -> int:
        """Return a number that changes whenever chunks come, go or change: within a second, at once after `changed`."""
        writes, _ = await self._state()
        return writes

    def changed(self) -> None:
        """Look at the library anew with the next search: this process is about to tell its caller of a change.

        Whoever was told that a document is ready or deleted must not be shown the time before.
        """
        self._states.clear()

    async def count_chunks(self, where: CorpusFilter) -> int:
        """Count the chunks that the caller may see."""
        async with self._database.transaction() as connection:
            return await self._chunks.count(connection, where)

    async def namespaces(self) -> dict[str, int]:
        """Return how many chunks of each namespace the caller may see."""
        async with self._database.transaction() as connection:
            return await self._chunks.namespaces(connection)

    async def document(self, document_id: UUID) -> Document:
        """Return a document, or raise NotFound: also for another person's private one."""
        async with self._database.transaction() as connection:
            return await self.read_document(connection, document_id)

    async def list_documents(self, where: DocumentFilter, requested_size: int, page_token: str) -> Page[Document]:
        """Return a page of the documents that the caller may see, newest first."""
        size = page_size(requested_size)
        after = position(page_token, where, datetime, UUID)
        async with self._database.transaction() as connection:
            rows = await self._documents.list(connection, where, after, size + 1)
        return cut(rows, size, where, key=lambda document: (document.created_at, document.id))

    async def create_document(self, connection: Connection, new: NewDocument) -> Document:
        """Store a document's description; it is searchable once chunks are written."""
        return await self._documents.insert(connection, new)

    async def read_document(self, connection: Connection, document_id: UUID, *, lock: bool = False) -> Document:
        """Return a document within a transaction, or raise NotFound. `lock` keeps it from changing meanwhile."""
        document = await self._documents.get(connection, document_id, lock=lock)
        if document is None:
            raise NotFound
        return document

    async def document_with_file(
        self, connection: Connection, sha256: str, owner_id: UUID | None, visibility: Visibility
    ) -> Document | None:
        """Return an owner's document with exactly these bytes and this visibility, or None."""
        return await self._documents.with_file(connection, sha256, owner_id, visibility)

    async def used_blobs(self, connection: Connection, keys: Sequence[str]) -> set[str]:
        """Return which of these storage keys belong to a document: the others may be swept."""
        return await self._documents.used_blobs(connection, keys)

    async def document_from_source(self, connection: Connection, url: str) -> Document | None:
        """Return the document that was fetched from a web address, or None."""
        return await self._documents.from_source(connection, url)

    async def file_document(
        self, connection: Connection, document_id: UUID, namespace: str, subject: str, grade: str
    ) -> None:
        """Set where a document and its chunks are searched."""
        await self._documents.file_under(connection, document_id, namespace, subject, grade)

    async def describe_document(
        self,
        connection: Connection,
        document_id: UUID,
        *,
        page_count: int,
        flagged_page_count: int,
        language: Language,
    ) -> None:
        """Set what reading its pages told of a document."""
        await self._documents.describe(connection, document_id, page_count, flagged_page_count, language)

    async def replace_file(self, connection: Connection, document_id: UUID, new: NewDocument) -> None:
        """Point a document at another file and its title; its chunks follow with the next ingestion."""
        await self._documents.replace_file(connection, document_id, new)

    async def delete_document(self, connection: Connection, document_id: UUID) -> Document:
        """Delete a document with its chunks and references; raises NotFound also for one the caller may not delete.

        Its vectors and its file are the caller's to delete.
        """
        document = await self._documents.delete(connection, document_id)
        if document is None:
            raise NotFound
        log.info("document_deleted", document_id=str(document_id))
        return document

    async def begin_generation(self, connection: Connection, document_id: UUID) -> int:
        """Begin writing a document's chunks and return the number of this run; raises NotFound."""
        generation = await self._documents.next_generation(connection, document_id)
        if generation is None:
            raise NotFound
        return generation

    async def indexed(self, drafts: Sequence[ChunkDraft]) -> list[Indexed]:
        """Analyse chunks for full-text search; best before the transaction that writes them."""
        return await asyncio.to_thread(lambda: list(map(lexemes.indexed, drafts)))

    async def write_chunks(
        self, connection: Connection, document_id: UUID, generation: int, chunks: Sequence[Indexed]
    ) -> None:
        """Write a batch of a run's chunks. Unchanged ones (same id and content hash) stay as they are."""
        await self._chunks.write(connection, document_id, generation, chunks)

    async def obsolete_chunks(self, connection: Connection, document_id: UUID, generation: int) -> list[str]:
        """Return the chunks that the run did not write again.

        Delete their vectors first and the chunks (`retire_chunks`) then: a crash in between leaves them listed here.
        """
        return await self._chunks.older_ids(connection, document_id, generation)

    async def retire_chunks(self, connection: Connection, document_id: UUID, generation: int) -> int:
        """Delete the chunks that the run did not write again; returns how many the document has now."""
        await self._chunks.delete_older(connection, document_id, generation)
        return await self._documents.count_chunks(connection, document_id)

    async def document_chunks(self, document_id: UUID) -> list[Chunk]:
        """Return a document's chunks in reading order, as far as the caller may see them."""
        async with self._database.transaction() as connection:
            return await self._chunks.of_document(connection, document_id)

    async def chunks_after(self, where: CorpusFilter, after: str, limit: int) -> list[Chunk]:
        """Return the next `limit` chunks in order of their ids: for going through all in batches. Begin with ''."""
        async with self._database.transaction() as connection:
            return await self._chunks.after(connection, where, after, limit)

    async def merge_statistics(self) -> int:
        """Tidy the ranking statistics; run it every minute or so. Returns how many terms had several rows."""
        async with self._database.transaction() as connection:
            return await self._chunks.merge_statistics(connection)

    async def _read(self, ids: Sequence[str]) -> list[Chunk]:
        # For the cache, which serves every caller: so all texts are read, whatever this caller may see.
        try:
            async with asyncio.timeout_at(caller.current().deadline_at), self._database.session() as session:
                return await self._chunks.read(session, ids)
        except TimeoutError:
            raise DeadlineExceeded from None

    async def _state(self) -> tuple[int, int]:
        async def read(_: None) -> tuple[int, int]:
            # Others may wait for this, so it must not end with this caller's deadline.
            with caller.acting_as(caller.detached(caller.current())):
                async with self._database.transaction() as connection:
                    return await self._chunks.state(connection)

        return await self._states.get(None, read)
