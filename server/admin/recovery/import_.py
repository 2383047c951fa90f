"""Import: an export is proven whole, then written into an empty system in one transaction; vectors follow."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from server.admin.operation import Progress
from server.admin.recovery import manifest as manifests
from server.admin.recovery import store
from server.admin.recovery.books import Books
from server.admin.recovery.checks import files_check, money_checks, vectors_check
from server.admin.recovery.files import Form, read_copy, read_rows
from server.admin.recovery.manifest import FILES, Manifest
from server.admin.recovery.place import Place
from server.admin.recovery.steps import Steps
from server.admin.recovery.tables import EXPORTED
from server.blobs.port import BlobStore
from server.caller import acting_as, system
from server.corpus.terms import SearchTerms
from server.corpus.vectors import VectorRefs
from server.database.pool import Database
from server.ingestion.healing import rewrite
from server.refusal import ExportInvalid, NotFound
from server.vectors.port import VectorStore
from server.wallet.report import Check


@dataclass(frozen=True, slots=True)
class Target:
    """The system that is filled: its database by its owner's address and as servers see it, its files and vectors."""

    owner_url: str
    database: Database
    blobs: BlobStore
    vectors: VectorStore


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of it: every check by name, and whether all of them are well."""

    manifest: Manifest
    vectors: int
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Say whether all is well."""
        return all(check.ok for check in self.checks)


@dataclass(frozen=True, slots=True)
class Source:
    """An export whose manifest is proven."""

    place: Place
    manifest: Manifest
    form: Form

    def rows(self, table: str) -> AsyncIterator[list[bytes]]:
        """Yield a table's lines in batches; raises ExportInvalid unless they are as they were."""
        return read_rows(self.place, self.manifest.table(table), self.form)

    async def copies(self) -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
        """Yield key and content of every copied file."""
        if not self.manifest.copies_files:
            return
        missing = set(self.manifest.missing_files)
        async for batch in self.rows(FILES):
            for row in map(json.loads, batch):
                if row["key"] not in missing:
                    yield row["key"], read_copy(self.place, row["key"], self.form, row["sha256"])


async def open_export(place: Place, secret: str) -> Source:
    """Return an export whose manifest is proven. Raises ExportInvalid when it is not, or when there is none."""
    content = await place.manifest()
    if content is None:
        raise ExportInvalid("There is no whole export here: its manifest is missing.")
    manifest, keys = await asyncio.to_thread(manifests.read, content, secret)
    return Source(place, manifest, Form(manifest.compressed, keys))


class Importer:
    """Fills one target."""

    def __init__(self, target: Target) -> None:
        self._target = target

    async def run(self, source: Source, request_id: UUID, progress: Progress) -> Imported:
        """Import an export. A request that did so before only builds the vectors again.

        Raises ExportInvalid for anything but the whole, unchanged export of this schema, and IllegalState for a system
        that is not empty; nothing is written then.
        """
        steps = Steps(progress)
        if await self.require_room(source, request_id):
            await _verify(source, steps)
            await self._put_files(source, steps)
            await self._fill(source, request_id, steps)
        return await self._complete(source, steps)

    async def restore_files(self, source: Source, progress: Progress) -> Check:
        """Put copied files that are missing into a system that has lost them, and look for all of them.

        Raises ExportInvalid when a copy is not what was uploaded; that file is not written.
        """
        steps = Steps(progress)
        await self._put_files(source, steps)
        await steps.begin("looking for files")
        return await files_check(self._target.blobs, source.rows(FILES))

    async def require_room(self, source: Source, request_id: UUID) -> bool:
        """Say whether the import is still to be done. Raises IllegalState and ExportInvalid as `run` does."""
        if await store.was_imported(self._target.owner_url, source.manifest.id, request_id):
            return False
        await store.require_empty(self._target.owner_url)
        await self._require_schema(source.manifest)
        return True

    async def _require_schema(self, manifest: Manifest) -> None:
        ours = await store.revision(self._target.owner_url)
        if manifest.schema_revision != ours:
            raise ExportInvalid(
                f"The export has schema {manifest.schema_revision} and this system {ours}; "
                f"import with version {manifest.server_version}, then update.",
                schema_revision=manifest.schema_revision,
            )

    async def _put_files(self, source: Source, steps: Steps) -> None:
        """Write copied files before anything in the database names them."""
        await steps.begin("restoring files")
        async for key, content in source.copies():
            try:
                await self._target.blobs.head(key)
            except NotFound:
                await self._target.blobs.put(key, content)
            await steps.advance(1)

    async def _fill(self, source: Source, request_id: UUID, steps: Steps) -> None:
        manifest = source.manifest
        async with store.restoration(self._target.owner_url) as restoration:
            for table in EXPORTED:
                await steps.begin(f"importing {table}", manifest.table(table).rows)
                async for batch in source.rows(table):
                    await restoration.insert(table, batch)
                    await steps.advance(len(batch))
                await restoration.continue_numbers(table)
            await steps.begin("proving the books")
            story = {"snapshot_at": manifest.snapshot_at.isoformat(), "rows": manifest.rows}
            if await restoration.finish(manifest.id, request_id, story) != manifest.ledger:
                raise ExportInvalid("The restored books are not those of the manifest; nothing was imported.")

    async def _complete(self, source: Source, steps: Steps) -> Imported:
        target = self._target
        checks = await money_checks(target.database)
        await steps.begin("looking for files")
        checks.append(await files_check(target.blobs, source.rows(FILES)))
        await steps.begin("making outdated search terms again")
        with acting_as(system()):
            await SearchTerms(target.database).renew(steps.advance)
        await steps.begin("building vectors")
        index = await store.restored_index(target.owner_url)
        written = 0
        if index is not None:
            await target.vectors.create_index(index.name, index.dimensions)
            # What the store holds is of another history: even a chunk's own vector may be of another text.
            await target.vectors.delete(index.name, sorted(await target.vectors.ids(index.name)))
            with acting_as(system()):
                written = await rewrite(VectorRefs(target.database), target.vectors, index.name)
            if await target.vectors.live() != index.name:
                await target.vectors.activate(index.name)
            checks.append(await vectors_check(target.database, target.vectors, index.name))
        return Imported(source.manifest, written, tuple(checks))


async def _verify(source: Source, steps: Steps) -> None:
    """Read the whole export once; raise ExportInvalid unless every byte, row and chain is as it was."""
    books = Books()
    for table in (*EXPORTED, FILES):
        await steps.begin(f"verifying {table}", source.manifest.table(table).rows)
        async for batch in source.rows(table):
            if table == "ledger_entry":
                books.add_entries(batch)
            elif table == "wallet":
                books.add_wallets(batch)
            await steps.advance(len(batch))
    books.prove(source.manifest.ledger.head)
    await steps.begin("verifying files")
    async for _, content in source.copies():
        async for _ in content:
            pass
        await steps.advance(1)
