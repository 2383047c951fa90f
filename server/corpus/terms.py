"""Search terms made again of the stored texts, after the analyser changed and while the library goes on changing.

Each chunk says which version of the analyser made its terms, so nothing else needs to be remembered: killed and run
again, it goes on with what is left. Until it has ended, a search finds a chunk of the version before by those words
only that both versions write alike.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from server.corpus import lexemes
from server.corpus.store import TermStore
from server.corpus.store.terms import Outdated
from server.database.pool import Database
from server.refusal import Conflict

BATCH: Final = 100
MOST_PASSES: Final = 20
"""Rounds over the library before giving up: each takes what others wrote during the one before."""
WAIT_SECONDS: Final = 0.5
"""Between two rounds: what is being written now is committed by then."""

Report = Callable[[int], Awaitable[None]]
"""Hears how many chunks were done since; raises to stop."""

log = structlog.get_logger(__name__)


def advice(outdated: int) -> str:
    """Say what to do about chunks with outdated terms."""
    return f"{outdated} chunks have search terms of another release, found by some words only: `bacmr reindex --terms`"


class SearchTerms:
    """Tells whose terms are outdated and makes them again, as the system or an administrator."""

    def __init__(self, database: Database, *, batch: int = BATCH, wait_seconds: float = WAIT_SECONDS) -> None:
        self._database = database
        self._batch = batch
        self._wait_seconds = wait_seconds
        self._store = TermStore()

    async def outdated(self, namespace: str = "") -> int:
        """Count the chunks, of one namespace if given, whose terms another version of the analyser made."""
        async with self._database.transaction() as connection:
            return await self._store.count(connection, namespace)

    async def renew(self, report: Report, namespace: str = "") -> int:
        """Make outdated terms again, a batch per transaction; returns of how many chunks.

        Raises Conflict when others write outdated terms faster: servers of another release.
        """
        renewed = 0
        for _ in range(MOST_PASSES):
            renewed += await self._pass(report, namespace)
            if not await self.outdated(namespace):
                log.info("search_terms_renewed", chunks=renewed, namespace=namespace)
                return renewed
            await asyncio.sleep(self._wait_seconds)
        raise Conflict("Search terms become outdated faster than they are made; stop servers of other releases.")

    async def _pass(self, report: Report, namespace: str) -> int:
        """Go once through the chunks with outdated terms."""
        renewed, after = 0, ""
        while True:
            async with self._database.transaction() as connection:
                chunks = await self._store.after(connection, namespace, after, self._batch)
            if not chunks:
                return renewed
            after = chunks[-1].id
            made = await asyncio.to_thread(_made, chunks)
            async with self._database.transaction() as connection:
                done = await self._store.renew(connection, chunks, made)
            renewed += done
            await report(done)


def _made(chunks: Sequence[Outdated]) -> list[lexemes.Lexemes]:
    return [lexemes.of_passage(chunk.text) for chunk in chunks]
