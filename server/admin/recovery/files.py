"""One file of an export: bytes on their way into it, counted, packed, encrypted and hashed, and back."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from server.admin.recovery.archive import Keys, Opener, Packer, Sealer, Unpacker
from server.admin.recovery.manifest import TableFile
from server.admin.recovery.place import Place
from server.refusal import ExportInvalid, NotFound

BLOCK_BYTES = 256 * 1024
BATCH_ROWS = 1_000
BATCH_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Form:
    """How the files of an export are stored; `keys` None means not encrypted."""

    compress: bool
    keys: Keys | None

    def name(self, table: str) -> str:
        """Return the name of a table's file."""
        return f"{table}.ndjson{'.gz' if self.compress else ''}{'.enc' if self.keys else ''}"


async def write_rows(place: Place, table: str, form: Form, rows: AsyncIterator[bytes]) -> TableFile:
    """Write a table's rows, each a line of JSON with its end, and return what the manifest says of the file."""
    tally = _Tally()
    await place.put(form.name(table), tally.stored(_encoded(form, table, tally.counted(rows))))
    return TableFile(table, form.name(table), tally.rows, tally.size_bytes, tally.digest.hexdigest())


async def read_rows(place: Place, table: TableFile, form: Form) -> AsyncIterator[list[bytes]]:
    """Yield a table's lines in batches. Raises ExportInvalid, at the end at the latest, unless all is as it was."""
    tally, batch, size = _Tally(), list[bytes](), 0
    stored = tally.stored(_fetched(place, table.file))
    async for line in _lines(_decoded(form, table.name, stored)):
        batch.append(line)
        size += len(line)
        if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
            tally.rows += len(batch)
            yield batch
            batch, size = [], 0
    tally.rows += len(batch)
    if (tally.size_bytes, tally.digest.hexdigest(), tally.rows) != (table.size_bytes, table.sha256, table.rows):
        raise ExportInvalid("A file of the export was cut or changed.", file=table.file)
    if batch:
        yield batch


async def write_copy(place: Place, name: str, form: Form, content: AsyncIterator[bytes]) -> None:
    """Write a copy of an uploaded file."""
    await place.put(name, _encrypted(form, name, content))


async def read_copy(place: Place, name: str, form: Form, sha256: str) -> AsyncIterator[bytes]:
    """Yield a copied file. Raises ExportInvalid at the end unless its content has this hash."""
    digest = hashlib.sha256()
    async for block in _decrypted(form, name, _fetched(place, name)):
        digest.update(block)
        yield block
    if digest.hexdigest() != sha256:
        raise ExportInvalid("A copied file of the export was cut or changed.", file=name)


class _Tally:
    def __init__(self) -> None:
        self.rows = self.size_bytes = 0
        self.digest = hashlib.sha256()

    async def counted(self, rows: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Count rows, and join them to blocks."""
        block = bytearray()
        async for row in rows:
            self.rows += 1
            block += row
            if len(block) >= BLOCK_BYTES:
                yield bytes(block)
                block.clear()
        if block:
            yield bytes(block)

    async def stored(self, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Hash bytes as they are stored."""
        async for block in blocks:
            self.size_bytes += len(block)
            self.digest.update(block)
            yield block


async def _encoded(form: Form, table: str, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    packed = _packed(blocks) if form.compress else blocks
    async for block in _encrypted(form, table, packed):
        yield block


async def _packed(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    packer = Packer()
    async for block in blocks:
        # A quarter megabyte takes 5 ms, for which other calls need not wait.
        yield await asyncio.to_thread(packer.add, block)
    yield packer.end()


async def _encrypted(form: Form, name: str, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if form.keys is None:
        async for block in blocks:
            yield block
        return
    sealer = Sealer(form.keys.of(name))
    async for block in blocks:
        yield sealer.add(block)
    yield sealer.end()


async def _fetched(place: Place, name: str) -> AsyncIterator[bytes]:
    try:
        async for block in place.get(name):
            # Stores hand out pieces of up to 10 MB, of which every step below would hold another copy.
            for start in range(0, len(block), BLOCK_BYTES):
                yield block[start : start + BLOCK_BYTES]
    except NotFound:
        raise ExportInvalid("A file of the export is missing.", file=name) from None


async def _decrypted(form: Form, name: str, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if form.keys is None:
        async for block in blocks:
            yield block
        return
    opener = Opener(form.keys.of(name))
    async for block in blocks:
        yield opener.add(block)
    yield opener.end()


async def _decoded(form: Form, table: str, stored: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    blocks = _decrypted(form, table, stored)
    if not form.compress:
        async for block in blocks:
            yield block
        return
    unpacker = Unpacker()
    async for block in blocks:
        for piece in unpacker.add(block):
            yield piece
    unpacker.end()


async def _lines(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield line
    if rest:
        raise ExportInvalid("A file of the export was cut in the middle of a line.")
