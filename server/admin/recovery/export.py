"""Export: every table as it was at one moment, and the manifest that makes it whole."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from server.admin.operation import Progress
from server.admin.recovery import manifest as manifests
from server.admin.recovery.archive import ALGORITHM, SALT_BYTES, Keys
from server.admin.recovery.files import Form, write_copy, write_rows
from server.admin.recovery.manifest import FILES, FORMAT, Encryption, Manifest, TableFile
from server.admin.recovery.place import Place
from server.admin.recovery.steps import Steps
from server.admin.recovery.store import Snapshot, snapshot
from server.admin.recovery.tables import EXPORTED, LEFT_OUT
from server.blobs.port import BlobStore
from server.refusal import AlreadyExists, NotFound

PROGRESS_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Wish:
    """How an export is to be made; `id` names it, so that the same export is never made twice."""

    id: UUID
    compress: bool = False
    copy_files: bool = False


@dataclass(frozen=True, slots=True)
class Exported:
    """What came of it."""

    location: str
    manifest: Manifest


class Exporter:
    """Reads the database as its owner. `secret` encrypts; empty means that exports are not encrypted."""

    def __init__(self, owner_url: str, blobs: BlobStore, secret: str, server_version: str) -> None:
        self._owner_url = owner_url
        self._blobs = blobs
        self._secret = secret
        self._version = server_version

    async def export(self, wish: Wish, place: Place, progress: Progress) -> Exported:
        """Write an export; a failed one is deleted, and what a killed one left is written over.

        Raises AlreadyExists when another export lies there, IllegalState when the login may not act as the owner.
        """
        done = await place.manifest()
        if done is not None:
            return await self._found(done, wish, place)
        form, encryption = await self._form(wish)
        draft = _Draft(place, form, Steps(progress))
        try:
            async with snapshot(self._owner_url) as taken:
                manifest = await self._write(draft, taken, wish, encryption)
        except BaseException:
            await draft.drop()
            raise
        return Exported(place.location, manifest)

    async def _write(self, draft: "_Draft", taken: Snapshot, wish: Wish, encryption: Encryption | None) -> Manifest:
        tables = [await draft.table(name, taken.rows(name)) for name in EXPORTED]
        tables.append(await draft.table(FILES, taken.files()))
        missing = await self._files(draft, taken, wish.copy_files)
        manifest = Manifest(
            id=wish.id,
            format=FORMAT,
            server_version=self._version,
            schema_revision=taken.revision,
            snapshot_at=taken.taken_at,
            created_at=datetime.now(UTC),
            ledger=taken.ledger,
            compressed=draft.form.compress,
            copies_files=wish.copy_files,
            encryption=encryption,
            tables=tables,
            missing_files=missing,
            left_out=LEFT_OUT,
        )
        await draft.seal(manifest)
        return manifest

    async def _files(self, draft: "_Draft", taken: Snapshot, copy: bool) -> list[str]:
        """See that every uploaded file is there, and copy it if asked; returns the keys of the missing ones."""
        await draft.steps.begin("copying files" if copy else "looking for files")
        missing = []
        async for line in taken.files():
            key = json.loads(line)["key"]
            try:
                await self._blobs.head(key)
            except NotFound:
                missing.append(key)
                continue
            if copy:
                await draft.copy(key, self._blobs.get(key))
            await draft.steps.advance(1)
        return missing

    async def _form(self, wish: Wish) -> tuple[Form, Encryption | None]:
        if not self._secret:
            return Form(wish.compress, None), None
        salt = os.urandom(SALT_BYTES)
        keys = await asyncio.to_thread(Keys, self._secret, salt)
        return Form(wish.compress, keys), Encryption(ALGORITHM, salt.hex())

    async def _found(self, content: bytes, wish: Wish, place: Place) -> Exported:
        manifest, _ = await asyncio.to_thread(manifests.read, content, self._secret)
        if manifest.id != wish.id:
            raise AlreadyExists("An export lies here already; choose another place.")
        return Exported(place.location, manifest)


@dataclass(frozen=True, slots=True)
class _Draft:
    """An export being written: nobody takes it for one before its manifest is there."""

    place: Place
    form: Form
    steps: Steps
    written: list[str] = field(default_factory=list)

    async def table(self, name: str, rows: AsyncIterator[bytes]) -> TableFile:
        await self.steps.begin(f"exporting {name}")
        self.written.append(self.form.name(name))
        return await write_rows(self.place, name, self.form, self._told(rows))

    async def copy(self, key: str, content: AsyncIterator[bytes]) -> None:
        self.written.append(key)
        await write_copy(self.place, key, self.form, content)

    async def seal(self, manifest: Manifest) -> None:
        self.written.append(manifests.NAME)
        await self.place.put_bytes(manifests.NAME, manifest.written(self.form.keys))

    async def drop(self) -> None:
        with contextlib.suppress(Exception):  # what stopped the export is told, not what its cleaning met
            for name in reversed(self.written):
                await self.place.delete(name)

    async def _told(self, rows: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        count = 0
        async for row in rows:
            yield row
            count += 1
            if count % PROGRESS_ROWS == 0:
                await self.steps.advance(PROGRESS_ROWS)
