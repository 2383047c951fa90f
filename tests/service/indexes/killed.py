"""A worker that is killed -9 at a step of a reindex: `python -m tests.service.indexes.killed <task as JSON>`."""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from server.admin.operation import Operation, Progress
from server.corpus.vectors import VectorRefs
from server.database.pool import Database
from server.vectors.milvus import MilvusStore
from tests.service.indexes.reindexing import NEW, IndexHouse
from tests.service.ingestion.killed import Deadly


async def main(task: dict[str, Any]) -> None:
    database = Database(task["database_url"], pool_size=4)
    await database.open()
    vectors = MilvusStore(task["milvus_uri"], timeout_seconds=60)
    house = IndexHouse(database, vectors, task["index"], None, Path(task["scratch"]))
    part, method, when, nth = task["kill"]
    parts = {"vectors": vectors, "refs": VectorRefs(database), "embedder": house.words[NEW]}
    runner = house.reindexing(**{part: Deadly(parts[part], method, when, nth)} if part in parts else {})

    async def run(operation: Operation, progress: Progress) -> Mapping[str, Any]:
        return await runner(operation, Deadly(progress, method, when, nth) if part == "progress" else progress)

    await house.run(UUID(task["operation_id"]), run)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
