"""The vector indexes as a process finds them at start, and what follows them while it runs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from server.app.models import Models
from server.app.stores import Stores
from server.caller import acting_as, system
from server.corpus.catalogue import IndexCatalogue
from server.corpus.spaces import Spaces
from server.corpus.terms import SearchTerms, advice
from server.corpus.vectors import VectorRefs
from server.ingestion.filling import Filling
from server.models.embedders import Embedders
from server.models.local.embedder import LocalEmbedder
from server.retrieval.search import LiveIndex

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Library:
    """The catalogue of indexes, the embedders of their spaces, and what keeps both in step with the stores."""

    embedders: Embedders
    catalogue: IndexCatalogue
    spaces: Spaces
    refs: VectorRefs
    filling: Filling
    terms: SearchTerms


async def open_library(stores: Stores, models: Models) -> Library:
    """Make sure that the index to search exists, in the store as well.

    Settings that name another model than it was made of change nothing yet: that takes a reindex, and until then the
    embedder of the index itself is asked. Nor does another analyser than the one that made the stored terms.
    """
    catalogue, refs = IndexCatalogue(stores.database), VectorRefs(stores.database)
    embedders = Embedders(models.embedder, models.remote)
    terms = SearchTerms(stores.database)
    with acting_as(system()):
        active = await catalogue.ensure_active(models.embedder.name, models.embedder.dimensions)
        outdated = await terms.outdated()
    await stores.vectors.create_index(active.name, active.dimensions)
    if await stores.vectors.live() != active.name:
        await stores.vectors.activate(active.name)
    if active.model != models.embedder.name:
        log.warning(
            "embedding_model_differs",
            configured=models.embedder.name,
            searched=active.model,
            by_vectors=embedders.serves(active.model, active.dimensions),
            to_do="bacmr reindex --all --activate, or set the former BACMR_EMBEDDING_MODEL",
        )
    if outdated:
        log.warning("search_terms_outdated", chunks=outdated, to_do=advice(outdated))
    filling = Filling(stores.database, refs, stores.vectors, catalogue)
    return Library(embedders, catalogue, Spaces(catalogue, embedders.of), refs, filling, terms)


def searched(spaces: Spaces) -> Callable[[], Awaitable[LiveIndex | None]]:
    """Return what tells the search which index to use."""

    async def live() -> LiveIndex | None:
        space = await spaces.live()
        if space is None:
            return None
        return LiveIndex(space.index, space.embedder, semantic=not isinstance(space.embedder, LocalEmbedder))

    return live
