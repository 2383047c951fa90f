"""A server process to be killed: `python answer_and_hang.py DATABASE_URL USER_ID` answers half a question and hangs."""

import asyncio
import sys
from uuid import UUID

from server.caller import Caller, Role, acting_as
from server.database.pool import Database
from tests.service.retrieval.retrieving import question, running, text_of

LEASE_SECONDS = 1.0


async def main(url: str, user_id: UUID) -> None:
    """Print the answer's id, then each text as it is shown."""
    database = Database(url, pool_size=4)
    await database.open()
    async with running(database, lease_seconds=LEASE_SECONDS) as process:
        process.model.gate, process.model.free_words = asyncio.Event(), 2
        with acting_as(Caller(user_id=user_id, role=Role.STUDENT)):
            answer_id = await process.room.answers.ask(question())
            print(answer_id, flush=True)
            async for event in process.room.answers.follow(answer_id):
                if text_of([event]):
                    print(event.sequence, text_of([event]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], UUID(sys.argv[2])))
