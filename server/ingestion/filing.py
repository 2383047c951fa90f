"""What checked bytes become: a new document, the one that holds them already, or the new file of a document."""

from dataclasses import dataclass, replace
from uuid import UUID

from server.blobs.port import BlobStore, holds
from server.corpus.passage import Document, NewDocument
from server.corpus.service import CorpusService
from server.database.pool import Connection, Database
from server.ingestion.rights import require_owner
from server.ingestion.store.jobs import JobStore
from server.refusal import Conflict


@dataclass(frozen=True, slots=True)
class Filed:
    """A document, and the storage key that nothing needs any more ('' for none): delete it after the transaction."""

    document: Document
    unneeded: str = ""


class Filing:
    """Makes documents of stored files. The same bytes of the same owner are one document."""

    def __init__(self, database: Database, corpus: CorpusService, blobs: BlobStore) -> None:
        self._database = database
        self._corpus = corpus
        self._blobs = blobs
        self._jobs = JobStore()

    async def lost(self, new: NewDocument) -> str:
        """Return the storage key of the document with these bytes if its file is missing, else ''.

        For `add`, which must not ask another store while its transaction is open.
        """
        async with self._database.transaction() as connection:
            same = await self._corpus.document_with_file(connection, new.sha256, new.owner_id, new.visibility)
        return "" if same is None or await holds(self._blobs, same.blob_key) else same.blob_key

    async def add(self, connection: Connection, new: NewDocument, lost: str) -> Filed:
        """Return the document of these bytes: made now, or found; one that lost its file gets this one instead."""
        same = await self._corpus.document_with_file(connection, new.sha256, new.owner_id, new.visibility)
        if same is None:
            return Filed(await self._corpus.create_document(connection, new))
        if same.blob_key != lost:
            return Filed(same, new.blob_key)
        restored = replace(new, title=same.title, filename=same.filename)
        await self._corpus.replace_file(connection, same.id, restored)
        return Filed(await self._corpus.read_document(connection, same.id))

    async def replaceable(self, connection: Connection, document_id: UUID) -> Document:
        """Return a document whose file may be replaced by the caller now.

        Raises NotFound, Forbidden for another person's, and Conflict while it is being ingested.
        """
        require_owner(await self._corpus.read_document(connection, document_id))
        document = await self._corpus.read_document(connection, document_id, lock=True)
        job = await self._jobs.lock_unfinished(connection, document_id)
        if job is not None:
            raise Conflict("The document is being ingested; wait for the job or cancel it.", job_id=job.id)
        return document

    async def put_in_place(self, connection: Connection, document_id: UUID, new: NewDocument, title: str) -> Filed:
        """Give a document another file, and another title unless that is empty; raises as `replaceable`.

        What is searched changes with its next ingestion.
        """
        before = await self.replaceable(connection, document_id)
        await self._corpus.replace_file(connection, document_id, replace(new, title=title or before.title))
        return Filed(await self._corpus.read_document(connection, document_id), before.blob_key)
