"""Search as people call it: passages now, and a little later its story for operators.

A search takes a millisecond when it is remembered, so its story is not written on its way: stories wait in memory, and
each process stores its own every few seconds, the first of them only where there are very many.
"""

from dataclasses import dataclass
from uuid import UUID

from server import caller
from server.corpus.passage import CorpusFilter
from server.database.pool import Database
from server.refusal import NoPassages, Refusal
from server.retrieval.passage import SearchResult, SearchTrace
from server.retrieval.search import RetrievalService
from server.retrieval.store import TraceStore
from server.retrieval.trace import Story, Trace
from server.text.detection import detect

METHOD = "Search"
MOST_WAITING = 500
"""Stories kept between two rounds; of more searches than that nobody reads the stories."""


@dataclass(frozen=True, slots=True)
class _Told:
    """A search that ended; `result` is None when it was refused."""

    request_id: UUID
    user_id: UUID
    query: str
    trace: Trace
    result: SearchResult | None


class SearchService:
    """Finds passages for the caller and keeps what operators may ask of it."""

    def __init__(self, retrieval: RetrievalService, database: Database) -> None:
        self._retrieval = retrieval
        self._database = database
        self._store = TraceStore()
        self._waiting: list[_Told] = []

    async def search(self, query: str, where: CorpusFilter, limit: int) -> SearchResult:
        """Return what `RetrievalService.search` does, and refuse as it does, but that finding nothing is a result too.

        A question cannot be answered from nothing; a search that finds nothing has been answered.
        """
        trace = Trace(query)
        try:
            with trace.timed("search"):
                result = await self._retrieval.search(query, where, limit)
        except Refusal as refusal:
            trace.refused(refusal.reason)
            self._note(query, trace, None)
            if isinstance(refusal, NoPassages):
                return _nothing(query)
            raise
        trace.reached("found")
        self._note(query, trace, result)
        return result

    async def keep_stories(self) -> int:
        """Store the stories that wait; returns how many."""
        told, self._waiting = self._waiting, []
        if told:
            async with self._database.transaction() as connection:
                await self._store.tell(connection, [_story(each) for each in told])
        return len(told)

    def _note(self, query: str, trace: Trace, result: SearchResult | None) -> None:
        who = caller.current()
        if who.user_id is not None and len(self._waiting) < MOST_WAITING:
            self._waiting.append(_Told(who.request_id, who.user_id, query, trace, result))


def _nothing(query: str) -> SearchResult:
    detected = detect(query)
    trace = SearchTrace(detected.confidence, "", (), (), (), reranked=False, cached=False)
    return SearchResult((), detected.language, (), (), trace)


def _story(told: _Told) -> Story:
    if told.result is not None:
        told.trace.found(told.result, told.query)
        for note in told.result.degraded:
            told.trace.degraded(note)
    return Story(told.request_id, told.request_id, told.user_id, METHOD, told.trace.story())
