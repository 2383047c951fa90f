"""Where an export lies: a folder, or a prefix of a blob store."""

import urllib.parse
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from server.admin.recovery import manifest
from server.blobs.objects import BadBlobUrl, open_blobs
from server.blobs.port import BlobStore
from server.blobs.tickets import Tickets
from server.refusal import ExportInvalid, Invalid, NotFound, Violation

AREA = "exports"
"""The export area of the blob store."""


@dataclass(frozen=True, slots=True)
class Place:
    """One export's place. `location` is how people name it; it leads here again."""

    blobs: BlobStore
    prefix: str
    location: str

    async def put(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Write a file; it has its name only once it is whole."""
        await self.blobs.put(self._key(name), chunks)

    async def put_bytes(self, name: str, content: bytes) -> None:
        """Write a small file."""
        await self.blobs.put_bytes(self._key(name), content)

    def get(self, name: str) -> AsyncIterator[bytes]:
        """Read a file. Raises NotFound at the first chunk."""
        return self.blobs.get(self._key(name))

    async def manifest(self) -> bytes | None:
        """Return the manifest's bytes, None when there is no whole export here."""
        try:
            return await self.blobs.get_bytes(self._key(manifest.NAME))
        except NotFound:
            return None

    async def delete(self, name: str) -> None:
        """Delete a file; a missing one is no error."""
        await self.blobs.delete(self._key(name))

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name


class Places:
    """Finds places by what people call them. `blob_url` is the address of `blobs`, without credentials."""

    def __init__(self, blobs: BlobStore, blob_url: str, tickets: Tickets) -> None:
        self._blobs = blobs
        self._blob_url = blob_url
        self._tickets = tickets

    def fresh(self, name: str) -> Place:
        """Return a place of this name in the export area."""
        return self._within(f"{AREA}/{name}")

    def to(self, destination: str) -> Place:
        """Return the place to write to: an address, an absolute folder, or a prefix of the blob store.

        A new folder is made so that only its owner may enter. Raises Invalid.
        """
        folder = _folder(destination)
        if folder is not None:
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise _no_place(error.strerror or "cannot be made") from None
        return self._at(destination)

    def existing(self, location: str) -> Place:
        """Return the place to read from. Raises Invalid, and ExportInvalid for a folder that does not exist."""
        folder = _folder(location)
        if folder is not None and not folder.is_dir():
            raise ExportInvalid("There is no such export.")
        return self._at(location)

    async def newest(self) -> Place | None:
        """Return the newest whole export of the area."""
        names = [name for name, whole in (await self.names()).items() if whole]
        return self.fresh(names[-1]) if names else None

    async def names(self) -> dict[str, bool]:
        """Return the names of the area's exports in their order, and whether each is whole."""
        files = [found.key.removeprefix(f"{AREA}/") async for found in self._blobs.list(AREA)]
        whole = {file.removesuffix(f"/{manifest.NAME}") for file in files if file.endswith(f"/{manifest.NAME}")}
        return {name: name in whole for name in sorted({file.partition("/")[0] for file in files})}

    async def forget(self, name: str) -> None:
        """Delete an export of the area, its manifest first, so that what is left never looks whole."""
        await self._blobs.delete(f"{AREA}/{name}/{manifest.NAME}")
        for found in [found async for found in self._blobs.list(f"{AREA}/{name}")]:
            await self._blobs.delete(found.key)

    def _at(self, location: str) -> Place:
        folder = _folder(location)
        if folder is None and "://" not in location:
            return self._within(location.strip("/"))
        url = location if folder is None else folder.as_uri()
        try:
            return Place(open_blobs(url, self._tickets), "", location)
        except BadBlobUrl as error:
            raise _no_place(str(error)) from None

    def _within(self, prefix: str) -> Place:
        parts = urllib.parse.urlsplit(self._blob_url)
        location = parts._replace(path=f"{parts.path.rstrip('/')}/{prefix}").geturl()
        return Place(self._blobs, prefix, location)


def _folder(location: str) -> Path | None:
    """Return the folder that a location names, None when it names something else."""
    if location.startswith("file://"):
        return Path(urllib.parse.unquote(urllib.parse.urlsplit(location).path))
    return Path(location) if location.startswith("/") else None


def _no_place(problem: str) -> Invalid:
    return Invalid(violations=[Violation("location", f"is no place for an export: {problem}", "export_place")])
