"""What is looked at once an import is done: money, files, vectors."""

import json
from collections.abc import AsyncIterator

from server.blobs.port import BlobStore
from server.caller import acting_as, system
from server.corpus.vectors import VectorRefs
from server.database.pool import Database
from server.refusal import NotFound
from server.retrieval.usage import charges_match_usage
from server.vectors.port import VectorStore
from server.wallet.report import Check
from server.wallet.service import WalletService


async def money_checks(database: Database) -> list[Check]:
    """Settle what fell due meanwhile, as a running server would, then prove the books."""
    wallet = WalletService(database, foreign_checks=[charges_match_usage])
    with acting_as(system()):
        await wallet.expire_overdue()
        return list((await wallet.reconcile()).checks)


async def files_check(blobs: BlobStore, listed: AsyncIterator[list[bytes]]) -> Check:
    """See that every uploaded file is in the store, with its size."""
    found, wrong = 0, list[str]()
    async for batch in listed:
        for line in batch:
            row = json.loads(line)
            try:
                right = (await blobs.head(row["key"])).size_bytes == row["size_bytes"]
            except NotFound:
                right = False
            found += right
            if not right:
                wrong.append(row["key"])
    detail = f"{found} files are there" + (f", {len(wrong)} are missing, as {wrong[0]}" if wrong else "")
    return Check("files_are_there", not wrong, detail, len(wrong))


async def vectors_check(database: Database, vectors: VectorStore, index: str) -> Check:
    """Compare the vectors that the database knows of with those in the store, by id."""
    with acting_as(system()):
        expected = await VectorRefs(database).ids(index)
    found = await vectors.ids(index)
    wrong = len(expected ^ found)
    return Check("vectors_are_there", not wrong, f"{len(expected)} expected, {len(found)} found", wrong)
