"""An embedder behind a breaker, tried again once: never replaced, because another model is another vector space."""

from collections.abc import Sequence

import structlog

from server.models.attempts import attempted
from server.models.breakers import Breakers, Open
from server.models.port import Embedder, Matrix, ProviderFailure, Purpose

_log = structlog.get_logger(__name__)

SERVICE = "embedding"
"""The breaker's name."""


class SteadyEmbedder:
    """Implements `server.models.port.Embedder` over another one that may fail."""

    def __init__(self, embedder: Embedder, breakers: Breakers) -> None:
        self._embedder = embedder
        self._breakers = breakers

    @property
    def name(self) -> str:
        """Name of the vector space."""
        return self._embedder.name

    @property
    def dimensions(self) -> int:
        """Length of each vector."""
        return self._embedder.dimensions

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Matrix:
        """Return one unit vector per text, in order. Raises ProviderFailure or DeadlineExceeded."""
        try:
            matrix, passage = await attempted(
                self._breakers, SERVICE, lambda: self._embedder.embed(texts, purpose), is_last=True
            )
        except Open:
            raise ProviderFailure("left alone after failures", transient=True) from None
        except ProviderFailure as failure:
            _log.warning("embedding_failed", model=self.name, problem=str(failure))
            raise
        passage.end()
        return matrix
