"""Files come in: by a signed request to storage, or streamed through a call. All that is said of them is checked."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import structlog

from server import caller
from server.blobs.port import BlobStore
from server.corpus.passage import Document, NewDocument, Visibility
from server.corpus.service import CorpusService
from server.database.once import Once
from server.database.pool import Connection, Database
from server.ingestion.extraction.filetype import HEAD_BYTES, FileType, declared, fits
from server.ingestion.store.uploads import Announced, Upload, UploadStore
from server.refusal import NotFound, UploadRefused

TICKET_SECONDS = 3_600
ORPHAN_GRACE_SECONDS = 24 * 3_600.0
FILES = "files/"
_SWEEP_BATCH = 500

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UploadTicket:
    """How to send a file: one HTTP request that needs no credentials until `expires_at`."""

    upload_id: UUID
    url: str
    method: str
    headers: dict[str, str]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class FileDescription:
    """What a caller says of a file that follows in the same call. An empty `sha256` is not checked."""

    filename: str
    content_type: str
    sha256: str = ""
    title: str = ""
    visibility: Visibility = Visibility.SHARED


@dataclass(frozen=True, slots=True)
class Received:
    """What really came: size in bytes, SHA-256 in hex and the first bytes."""

    size_bytes: int
    sha256: str
    head: bytes


class Uploads:
    """Uploads of files into storage, and the documents they become."""

    def __init__(self, database: Database, once: Once, corpus: CorpusService, blobs: BlobStore, max_bytes: int) -> None:
        """Take the stores; `max_bytes` limits one file."""
        self._database = database
        self._once = once
        self._corpus = corpus
        self._blobs = blobs
        self._max_bytes = max_bytes
        self._store = UploadStore()

    async def create_upload(self, announced: Announced, request_id: UUID) -> UploadTicket:
        """Announce a file; the ticket is valid for an hour. Raises UploadRefused for a type or size not taken."""
        self._require_type(announced.filename, announced.content_type)
        if announced.size_bytes > self._max_bytes:
            raise UploadRefused("The file is too large.", max_bytes=self._max_bytes)

        async def effect(connection: Connection) -> UploadTicket:
            upload_id = uuid4()
            upload = await self._store.add(
                connection, upload_id, caller.current().user_id, announced, f"{FILES}{upload_id}", TICKET_SECONDS
            )
            signed = await self._blobs.sign_upload(
                upload.blob_key,
                content_type=announced.content_type,
                max_bytes=announced.size_bytes,
                ttl_seconds=TICKET_SECONDS,
            )
            return UploadTicket(upload_id, signed.url, signed.method, dict(signed.headers), signed.expires_at)

        return await self._once.run("CreateUpload", request_id, announced, UploadTicket, effect)

    async def complete_upload(self, upload_id: UUID, request_id: UUID | None = None) -> Document:
        """Check the uploaded bytes and make the document; calling it again returns the same document.

        Raises UploadRefused, and deletes the bytes, when size, type or hash differ from what was announced; NotFound,
        RequestIdReused.
        """
        async with self._database.transaction() as connection:
            upload = await self._store.get(connection, upload_id)
        if upload is None:
            raise NotFound
        if upload.document_id is None:
            await self._check(upload)
        unneeded: list[str] = []

        async def complete(connection: Connection) -> Document:
            upload = await self._store.lock(connection, upload_id)
            if upload is None:
                raise NotFound
            if upload.document_id is not None:
                return await self._corpus.read_document(connection, upload.document_id)
            document, kept = await self._document(connection, _new(upload))
            await self._store.finish(connection, upload_id, document.id)
            if not kept:
                unneeded.append(upload.blob_key)
            return document

        document = await self._once.run("CompleteUpload", request_id, upload_id, Document, complete)
        for key in unneeded:
            await self._blobs.delete(key)
        return document

    async def upload_document(
        self, described: FileDescription, chunks: AsyncIterator[bytes], request_id: UUID
    ) -> Document:
        """Store a streamed file and make its document. Memory stays bounded by one chunk.

        Raises UploadRefused as soon as the stream shows that the file will not be taken; nothing of it is kept then.
        """
        promised = self._require_type(described.filename, described.content_type)
        key = f"{FILES}{uuid4()}"
        meter = _Meter(chunks, self._max_bytes)
        await self._blobs.put(key, meter.pass_through())
        try:
            received = meter.received()
            _require_fit(received, promised, described.sha256)
            document, kept = await self._once.run(
                "UploadDocument",
                request_id,
                (described, received.sha256),
                tuple[Document, bool],
                lambda connection: self._document(connection, _described(described, promised, received, key)),
            )
        except BaseException:
            await self._blobs.delete(key)
            raise
        if not kept or document.blob_key != key:
            await self._blobs.delete(key)
        return document

    async def sweep_orphans(self, grace_seconds: float = ORPHAN_GRACE_SECONDS) -> int:
        """Delete uploads that nobody completed and stored files that belong to nothing. Returns how many."""
        swept = 0
        async with self._database.transaction() as connection:
            expired = await self._store.expired(connection, grace_seconds, _SWEEP_BATCH)
        for upload in expired:
            await self._blobs.delete(upload.blob_key)
        async with self._database.transaction() as connection:
            await self._store.drop(connection, [upload.id for upload in expired])
        swept += len(expired)
        return swept + await self._sweep_blobs(grace_seconds)

    async def _sweep_blobs(self, grace_seconds: float) -> int:
        """Delete files older than the grace time that neither a document nor an open upload names."""
        swept = 0
        batch: list[str] = []
        now = datetime.now().astimezone()
        async for blob in self._blobs.list(FILES):
            if (now - blob.modified_at).total_seconds() > grace_seconds:
                batch.append(blob.key)
            if len(batch) == _SWEEP_BATCH:
                swept += await self._delete_unknown(batch)
                batch = []
        return swept + await self._delete_unknown(batch)

    async def _delete_unknown(self, keys: list[str]) -> int:
        async with self._database.transaction() as connection:
            known = await self._store.open_keys(connection, keys) | await self._corpus.used_blobs(connection, keys)
        unknown = [key for key in keys if key not in known]
        for key in unknown:
            log.info("orphan_blob_deleted", key=key)
            await self._blobs.delete(key)
        return len(unknown)

    async def _check(self, upload: Upload) -> None:
        announced = upload.announced
        promised = self._require_type(announced.filename, announced.content_type)
        try:
            blob = await self._blobs.head(upload.blob_key)
        except NotFound:
            raise UploadRefused("Nothing was uploaded for this ticket yet.") from None
        try:
            if blob.size_bytes != announced.size_bytes:
                raise UploadRefused("The file has another size than announced.", size_bytes=blob.size_bytes)
            meter = _Meter(self._blobs.get(upload.blob_key), announced.size_bytes)
            async for _ in meter.pass_through():
                pass
            _require_fit(meter.received(), promised, announced.sha256)
        except UploadRefused:
            await self._blobs.delete(upload.blob_key)
            raise

    async def _document(self, connection: Connection, new: NewDocument) -> tuple[Document, bool]:
        """Return the document of these bytes and whether it is new: the same file of the same owner is one document."""
        same = await self._corpus.document_with_file(connection, new.sha256, new.owner_id, new.visibility)
        if same is not None:
            return same, False
        return await self._corpus.create_document(connection, new), True

    def _require_type(self, filename: str, content_type: str) -> FileType:
        promised = declared(filename, content_type)
        if promised is None:
            raise UploadRefused("Files of this type are not taken.", allowed=", ".join(FileType))
        return promised


class _Meter:
    """Passes a stream on, measuring and hashing it; cuts it off where it gets too long."""

    def __init__(self, chunks: AsyncIterator[bytes], max_bytes: int) -> None:
        self._chunks = chunks
        self._max_bytes = max_bytes
        self._size = 0
        self._hash = hashlib.sha256()
        self._head = b""

    async def pass_through(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            self._size += len(chunk)
            if self._size > self._max_bytes:
                raise UploadRefused("The file is too large.", max_bytes=self._max_bytes)
            self._hash.update(chunk)
            if len(self._head) < HEAD_BYTES:
                self._head += chunk[: HEAD_BYTES - len(self._head)]
            yield chunk

    def received(self) -> Received:
        return Received(self._size, self._hash.hexdigest(), self._head)


def _require_fit(received: Received, promised: FileType, sha256: str) -> None:
    if received.size_bytes == 0:
        raise UploadRefused("The file is empty.")
    if sha256 and received.sha256 != sha256:
        raise UploadRefused("The file has another SHA-256 than announced.")
    if not fits(received.head, promised):
        raise UploadRefused("The bytes are not of the announced type.", announced=promised)


def _new(upload: Upload) -> NewDocument:
    announced = upload.announced
    return NewDocument(
        title=announced.title or announced.filename,
        filename=announced.filename,
        content_type=declared(announced.filename, announced.content_type) or announced.content_type,
        size_bytes=announced.size_bytes,
        sha256=announced.sha256,
        blob_key=upload.blob_key,
        owner_id=upload.owner_id,
        visibility=Visibility(announced.visibility),
    )


def _described(described: FileDescription, promised: FileType, received: Received, key: str) -> NewDocument:
    return NewDocument(
        title=described.title or described.filename,
        filename=described.filename,
        content_type=promised,
        size_bytes=received.size_bytes,
        sha256=received.sha256,
        blob_key=key,
        owner_id=caller.current().user_id,
        visibility=described.visibility,
    )
