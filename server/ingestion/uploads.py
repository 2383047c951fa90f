"""Files come in: by a signed request to storage, or streamed through a call. All that is said of them is checked."""

import hashlib
import re
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
from server.ingestion.filing import Filed, Filing
from server.ingestion.store.uploads import Announced, Upload, UploadStore
from server.refusal import NotFound, UploadRefused
from server.text.fold import one_line

TICKET_SECONDS = 3_600
ORPHAN_GRACE_SECONDS = 24 * 3_600.0
FILES = "files/"
UNNAMED = "file"
_FOLDERS = re.compile(r".*[/\\]", re.DOTALL)
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
    replaces: UUID | None = None
    """Document whose file this one is to take the place of."""


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
        self._filing = Filing(database, corpus, blobs)

    async def create_upload(self, announced: Announced, request_id: UUID) -> UploadTicket:
        """Announce a file; the ticket is valid for an hour. Raises UploadRefused for a type or size not taken.

        One that replaces a document's file also raises NotFound, Forbidden and Conflict as `Filing.replaceable`.
        """
        self._require_type(announced.filename, announced.content_type)
        if announced.size_bytes > self._max_bytes:
            raise UploadRefused("The file is too large.", max_bytes=self._max_bytes)

        async def effect(connection: Connection) -> UploadTicket:
            if announced.replaces is not None:
                await self._filing.replaceable(connection, announced.replaces)
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
        ran = await self._once.ran("CompleteUpload", request_id, upload_id)
        async with self._database.transaction() as connection:
            upload = await self._store.get(connection, upload_id)
        lost = ""
        if not ran and upload is not None and upload.document_id is None:
            await self._check(upload)
            lost = await self._filing.lost(_new(upload))
        unneeded: list[str] = []

        async def complete(connection: Connection) -> Document:
            upload = await self._store.lock(connection, upload_id)
            if upload is None:
                raise NotFound
            if upload.document_id is not None:
                return await self._corpus.read_document(connection, upload.document_id)
            announced = upload.announced
            filed = await self._file(connection, _new(upload), lost, announced.replaces, announced.title)
            await self._store.finish(connection, upload_id, filed.document.id)
            unneeded.append(filed.unneeded)
            return filed.document

        document = await self._once.run("CompleteUpload", request_id, upload_id, Document, complete)
        for key in filter(None, unneeded):
            await self._blobs.delete(key)
        return document

    async def upload_document(
        self, described: FileDescription, chunks: AsyncIterator[bytes], request_id: UUID
    ) -> Document:
        """Store a streamed file and make its document. Memory stays bounded by one chunk.

        Raises UploadRefused as soon as the stream shows that the file will not be taken; nothing of it is kept then.
        One that replaces a document's file also raises NotFound, Forbidden and Conflict as `Filing.replaceable`.
        """
        promised = self._require_type(described.filename, described.content_type)
        ran = await self._once.ran("UploadDocument", request_id)
        if described.replaces is not None and not ran:
            async with self._database.transaction() as connection:
                await self._filing.replaceable(connection, described.replaces)
        key = f"{FILES}{uuid4()}"
        meter = _Meter(chunks, self._max_bytes)
        await self._blobs.put(key, meter.pass_through())
        try:
            received = meter.received()
            _require_fit(received, promised, described.sha256)
            new = _described(described, promised, received, key)
            lost = await self._filing.lost(new)
            filed = await self._once.run(
                "UploadDocument",
                request_id,
                (described, received.sha256),
                Filed,
                lambda connection: self._file(connection, new, lost, described.replaces, described.title),
            )
        except BaseException:
            await self._blobs.delete(key)
            raise
        for unneeded in {filed.unneeded, key} - {"", filed.document.blob_key}:
            await self._blobs.delete(unneeded)
        return filed.document

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

    async def _file(
        self, connection: Connection, new: NewDocument, lost: str, replaces: UUID | None, title: str
    ) -> Filed:
        if replaces is None:
            return await self._filing.add(connection, new, lost)
        return await self._filing.put_in_place(connection, replaces, new, title)

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
        title=one_line(announced.title) or _shown(announced.filename),
        filename=_shown(announced.filename),
        content_type=declared(announced.filename, announced.content_type) or announced.content_type,
        size_bytes=announced.size_bytes,
        sha256=announced.sha256,
        blob_key=upload.blob_key,
        owner_id=upload.owner_id,
        visibility=Visibility(announced.visibility),
    )


def _shown(filename: str) -> str:
    """Return a file's name as it may be shown: without its folders, and without signs that turn a line around."""
    return one_line(_FOLDERS.sub("", filename)) or UNNAMED


def _described(described: FileDescription, promised: FileType, received: Received, key: str) -> NewDocument:
    return NewDocument(
        title=one_line(described.title) or _shown(described.filename),
        filename=_shown(described.filename),
        content_type=promised,
        size_bytes=received.size_bytes,
        sha256=received.sha256,
        blob_key=key,
        owner_id=caller.current().user_id,
        visibility=described.visibility,
    )
