"""What the HTTP port does with a ticket: bytes in and out of the store, within what the ticket allows."""

from collections.abc import AsyncIterator, Mapping

from server import refusal
from server.blobs.port import Blob, BlobStore
from server.blobs.tickets import Tickets


class Door:
    """Serves the tickets that the store's `sign_upload` and `sign_download` handed out."""

    def __init__(self, store: BlobStore, tickets: Tickets) -> None:
        self._store = store
        self._tickets = tickets

    async def upload(self, key: str, query: Mapping[str, str], content_type: str, chunks: AsyncIterator[bytes]) -> Blob:
        """Store what a client sends with PUT. A refused upload changes nothing under the key.

        Raises NotSignedIn for a bad ticket, UploadRefused for another type or too many bytes.
        """
        allowed = self._tickets.verify("PUT", key, query)
        if allowed.content_type and content_type != allowed.content_type:
            raise refusal.UploadRefused("The content type is not the declared one.", declared=allowed.content_type)
        return await self._store.put(key, limited(chunks, allowed.max_bytes))

    async def download(self, key: str, query: Mapping[str, str]) -> tuple[Blob, AsyncIterator[bytes]]:
        """Return what is stored and its bytes for GET. Raises NotSignedIn or NotFound."""
        self._tickets.verify("GET", key, query)
        return await self._store.head(key), self._store.get(key)


async def limited(chunks: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """Pass a stream on, raising UploadRefused as soon as it exceeds `max_bytes`."""
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise refusal.UploadRefused("The file is larger than declared.", max_bytes=max_bytes)
        yield chunk
