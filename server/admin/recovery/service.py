"""Recovery as operators ask for it: by location in, by JSON values out; the week's export and which ones are kept."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import structlog
from pydantic_core import to_jsonable_python

from server.admin.operation import Operation, Progress, Runner
from server.admin.recovery.drill import Drill
from server.admin.recovery.export import Exported, Exporter, Wish
from server.admin.recovery.import_ import Importer, open_export
from server.admin.recovery.place import Places
from server.refusal import Refusal

EXPORT, IMPORT, DRILL = "export", "import", "drill"
"""Kinds of operations."""
SCHEDULED = "-weekly"
"""Ends the names of scheduled exports: only these are deleted, when they are many."""
KEPT_EXPORTS = 8
"""Scheduled exports that are kept."""
STAMP = "%Y%m%d_%H%M%S"

log = structlog.get_logger(__name__)


class _Silent:
    async def report(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Nobody watches."""


class Exports:
    """Makes exports."""

    def __init__(self, exporter: Exporter, places: Places) -> None:
        self._exporter = exporter
        self._places = places

    async def export(self, wish: Wish, destination: str, asked_at: datetime, progress: Progress) -> dict[str, Any]:
        """Export to a folder or prefix, or to the export area of the blob store when it is empty."""
        name = f"{asked_at.astimezone(UTC):{STAMP}}-{str(wish.id)[:8]}"
        place = self._places.to(destination) if destination else self._places.fresh(name)
        return _told(await self._exporter.export(wish, place, progress))

    async def export_scheduled(self) -> None:
        """Export to the export area, then delete scheduled exports that are too many or were never finished."""
        name = f"{datetime.now(UTC):{STAMP}}{SCHEDULED}"
        made = await self._exporter.export(Wish(uuid4(), compress=True), self._places.fresh(name), _Silent())
        log.info("exported", location=made.location, rows=made.manifest.rows)
        scheduled = {name: whole for name, whole in (await self._places.names()).items() if name.endswith(SCHEDULED)}
        kept = [name for name, whole in scheduled.items() if whole][-KEPT_EXPORTS:]
        for old in scheduled.keys() - set(kept):
            await self._places.forget(old)


class Imports:
    """Imports into the system it belongs to."""

    def __init__(self, importer: Importer, places: Places, secret: str) -> None:
        self._importer = importer
        self._places = places
        self._secret = secret

    async def problem(self, location: str, request_id: UUID) -> Refusal | None:
        """Return what the import would refuse after a look at the manifest and the system."""
        try:
            source = await open_export(self._places.existing(location), self._secret)
            await self._importer.require_room(source, request_id)
        except Refusal as refusal:
            return refusal
        return None

    async def run(self, location: str, request_id: UUID, progress: Progress) -> dict[str, Any]:
        """Import an export."""
        source = await open_export(self._places.existing(location), self._secret)
        imported = await self._importer.run(source, request_id, progress)
        return {
            "ok": imported.ok,
            "location": location,
            "id": str(imported.manifest.id),
            "snapshot_at": imported.manifest.snapshot_at.isoformat(),
            "rows": imported.manifest.rows,
            "vectors": imported.vectors,
            "checks": [asdict(check) for check in imported.checks],
        }

    async def run_files(self, location: str, progress: Progress) -> dict[str, Any]:
        """Put the uploaded files of an export back where they are missing; nothing else is touched."""
        check = await self._importer.restore_files(
            await open_export(self._places.existing(location), self._secret), progress
        )
        return {"ok": check.ok, "location": location, "checks": [asdict(check)]}


class Drills:
    """Rehearses recovery."""

    def __init__(self, drill: Drill, places: Places) -> None:
        self._drill = drill
        self._places = places

    async def newest(self) -> str:
        """Return where the newest export of the area lies; empty when there is none."""
        place = await self._places.newest()
        return place.location if place else ""

    async def run(self, location: str, progress: Progress) -> dict[str, Any]:
        """Try an export, or a fresh one when `location` is empty."""
        found = await self._drill.run(location, progress)
        told: dict[str, Any] = {"ok": found.ok} | to_jsonable_python(asdict(found))
        return told


def runners(exports: Exports, imports: Imports, drills: Drills) -> dict[str, Runner]:
    """Return the runners of the three kinds of operations."""

    async def export(operation: Operation, progress: Progress) -> Mapping[str, Any]:
        task = operation.task
        wish = Wish(operation.id, compress=task["compress"], copy_files=task["copy_files"])
        return await exports.export(wish, task["destination"], operation.created_at, progress)

    async def import_(operation: Operation, progress: Progress) -> Mapping[str, Any]:
        return await imports.run(operation.task["location"], UUID(operation.task["request_id"]), progress)

    async def drill(operation: Operation, progress: Progress) -> Mapping[str, Any]:
        return await drills.run(operation.task["location"], progress)

    return {EXPORT: export, IMPORT: import_, DRILL: drill}


def _told(made: Exported) -> dict[str, Any]:
    manifest = made.manifest
    missing = len(manifest.missing_files)
    return {
        "ok": not missing,
        "location": made.location,
        "id": str(manifest.id),
        "snapshot_at": manifest.snapshot_at.isoformat(),
        "schema_revision": manifest.schema_revision,
        "ledger_head": manifest.ledger.head,
        "encrypted": manifest.encryption is not None,
        "rows": manifest.rows,
        "size_bytes": sum(table.size_bytes for table in manifest.tables),
        "tables": {table.name: table.rows for table in manifest.tables},
        "checks": [
            {"name": "files_are_there", "ok": not missing, "detail": f"{missing} are missing", "problems": missing}
        ],
    }
