"""Which index answers searches, with the embedder of its vector space: as the catalogue says, in every process.

A switch is one row of the catalogue. Each process looks at it every two seconds at most, so that it needs no restart
and no message; a search that has begun keeps the index it began with.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server import caller
from server.cache.flight import FlightCache
from server.corpus.catalogue import IndexCatalogue
from server.models.port import Embedder
from server.refusal import DeadlineExceeded, StoreUnavailable

FOLLOW_SECONDS = 2.0
"""How long after a switch a process may still search the index before."""

EmbedderOf = Callable[[str, int], Embedder]
"""Returns the embedder of a vector space by the model's name and its dimensions."""


@dataclass(frozen=True, slots=True)
class Space:
    """An index and the embedder whose vectors it holds."""

    index: str
    embedder: Embedder


class Spaces:
    """Follows the catalogue. One per process."""

    def __init__(
        self, catalogue: IndexCatalogue, embedder_of: EmbedderOf, *, follow_seconds: float = FOLLOW_SECONDS
    ) -> None:
        self._catalogue = catalogue
        self._embedder_of = embedder_of
        self._seen: FlightCache[None, Space | None] = FlightCache(1, follow_seconds, "live_index")
        self._last: Space | None = None

    async def live(self) -> Space | None:
        """Return the index to search, None before there is one; the last one seen while PostgreSQL is away."""
        try:
            return await self._seen.get(None, self._look)
        except (StoreUnavailable, DeadlineExceeded):
            if self._last is None:
                raise
            return self._last

    async def written(self) -> Sequence[Space]:
        """Return the indexes that new chunks go into, read anew: those on their way first, the searched one last.

        In this order no chunk is ever found by vectors now and lost by a switch. Raises StoreUnavailable while there
        is no index.
        """
        active, following = await self._catalogue.written()
        if active is None:
            raise StoreUnavailable("There is no search index yet.", store="vectors")
        return [Space(each.name, self._embedder_of(each.model, each.dimensions)) for each in (*following, active)]

    def look_again(self) -> None:
        """Forget what was seen: this process made a switch."""
        self._seen.clear()

    async def _look(self, _: None) -> Space | None:
        with caller.acting_as(caller.system()):
            active = await self._catalogue.active()
        self._last = Space(active.name, self._embedder_of(active.model, active.dimensions)) if active else None
        return self._last
