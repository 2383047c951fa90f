"""A worker that is killed -9 at a chosen step of a job: `python -m tests.service.ingestion.killed <task as JSON>`."""

import asyncio
import inspect
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from server import caller
from server.database.pool import Database
from server.vectors.milvus import MilvusStore
from tests.fakes import WordEmbedder
from tests.service.ingestion.ingesting import House


class Deadly:
    """Passes everything on, and ends the process before or after the nth call of one method."""

    def __init__(self, target: Any, method: str, when: str, nth: int = 1) -> None:
        self._target, self._method, self._when, self._left = target, method, when, nth

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name != self._method:
            return found
        if not inspect.iscoroutinefunction(found):
            return self._die

        async def deadly(*values: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left == 0 and self._when == "before":
                self._die()
            result = await found(*values, **named)
            if self._left == 0:
                self._die()
            return result

        return deadly

    def _die(self, *values: Any, **named: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


async def main(task: dict[str, Any]) -> None:
    database = Database(task["database_url"], pool_size=4)
    await database.open()
    vectors = MilvusStore(task["milvus_uri"], timeout_seconds=60)
    house = House(database, vectors, task["index"], WordEmbedder(), Path(task["scratch"]), blob_url=task["blob_url"])
    part, method, when = task["kill"]
    target = house.embedder if part == "embedder" else getattr(house, part)
    deadly = Deadly(target, method, when)
    pipeline = (
        house.pipeline_with(deadly) if part == "embedder" else house.pipeline_with(house.embedder, **{part: deadly})
    )
    with caller.acting_as(caller.system()):
        await pipeline.run(UUID(task["job_id"]))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
