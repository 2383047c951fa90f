"""Taking documents away from all three stores, so that a crash in between leaves nothing that is not found again.

The row goes first, and in the same transaction a note of what is left in the other stores; the note goes last.
"""

from collections.abc import Sequence
from uuid import UUID

import structlog

from server import caller
from server.blobs.port import BlobStore
from server.corpus.passage import Document
from server.corpus.service import CorpusService
from server.database.pool import Connection, Database
from server.ingestion.store.remains import Remains, RemainsStore
from server.refusal import NotFound
from server.vectors.port import VectorStore

_SWEEP_BATCH = 200

log = structlog.get_logger(__name__)


class Removal:
    """Deletes documents, or what was made of them."""

    def __init__(self, database: Database, corpus: CorpusService, blobs: BlobStore, vectors: VectorStore) -> None:
        self._database = database
        self._corpus = corpus
        self._blobs = blobs
        self._vectors = vectors
        self._store = RemainsStore()

    async def begin(self, connection: Connection, document: Document) -> None:
        """Delete a document's rows in an open transaction; call `finish` after it."""
        await self._store.add(connection, document.id, document.blob_key)
        await self._corpus.delete_document(connection, document.id)

    async def finish(self, document_id: UUID) -> None:
        """Delete what the other stores hold of a deleted document. Does nothing when that is done."""
        self._corpus.changed()
        with caller.acting_as(caller.system(caller.current().request_id)):
            async with self._database.transaction() as connection:
                remains = await self._store.of(connection, document_id)
            await self._clear(remains)

    async def sweep(self) -> int:
        """Finish deletions that a crash interrupted; return how many. For the schedule."""
        async with self._database.transaction() as connection:
            remains = await self._store.oldest(connection, _SWEEP_BATCH)
        await self._clear(remains)
        return len(remains)

    async def empty(self, document_id: UUID) -> None:
        """Take a document out of the search, keeping its file and description: chunks and vectors go."""
        with caller.acting_as(caller.system(caller.current().request_id)):
            for index in await self._vectors.indexes():
                await self._vectors.delete_document(index, document_id)
            async with self._database.transaction() as connection:
                try:
                    generation = await self._corpus.begin_generation(connection, document_id)
                except NotFound:
                    return
                await self._corpus.retire_chunks(connection, document_id, generation)
        self._corpus.changed()

    async def _clear(self, remains: Sequence[Remains]) -> None:
        for left in remains:
            for index in await self._vectors.indexes():
                await self._vectors.delete_document(index, left.document_id)
            await self._blobs.delete(left.blob_key)
            async with self._database.transaction() as connection:
                await self._store.drop(connection, left)
            log.info("document_removed", document_id=str(left.document_id))
