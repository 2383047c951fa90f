"""Embedders by the name of their vector space: the configured one, the local ones, others of the same endpoint."""

from collections.abc import Callable, Sequence
from typing import Final

from server.models.local.embedder import PREFIX as LOCAL_PREFIX
from server.models.local.embedder import SIZES as LOCAL_SIZES
from server.models.local.embedder import LocalEmbedder
from server.models.port import Embedder, Matrix, ProviderFailure, Purpose

LEAST_DIMENSIONS: Final = 64
MOST_DIMENSIONS: Final = 4_096
_SEPARATOR: Final = "@"

Remote = Callable[[str, int], Embedder]
"""Makes the embedder of another model at the configured endpoint."""


class UnknownModel(ValueError):
    """No embedder can be made of what was asked for; the message is a public sentence."""


class AbsentEmbedder:
    """Stands for a vector space that this server has no settings for: searches go on by full text."""

    def __init__(self, name: str, dimensions: int) -> None:
        self._name = name
        self._dimensions = dimensions

    @property
    def name(self) -> str:
        """Name of the vector space."""
        return self._name

    @property
    def dimensions(self) -> int:
        """Length of each vector."""
        return self._dimensions

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Matrix:
        """Raise ProviderFailure."""
        raise ProviderFailure(f"no settings for the embedding model {self._name}", transient=False)


class Embedders:
    """Makes each embedder once."""

    def __init__(self, configured: Embedder, remote: Remote | None) -> None:
        """`remote` is None where no endpoint for embeddings is configured."""
        self._remote = remote
        self._by_name: dict[str, Embedder] = {configured.name: configured}
        self.configured = configured

    def asked(self, model: str) -> Embedder:
        """Return the embedder that an operator names: ``, `local-1024`, `a-model@1536`, or the name of a vector space.

        Raises UnknownModel.
        """
        if not model:
            return self.configured
        local = local_embedder(model)
        if local is not None:
            return self._by_name.setdefault(local.name, local)
        for name in (model, f"{model}-{self.configured.dimensions}"):
            if name in self._by_name:
                return self._by_name[name]
        if self._remote is None:
            raise UnknownModel(
                f"The local models are {', '.join(local_names())}; another needs BACMR_EMBEDDING_MODEL and its key."
            )
        name, _, size = model.rpartition(_SEPARATOR)
        if not name or not size.isdecimal() or not LEAST_DIMENSIONS <= int(size) <= MOST_DIMENSIONS:
            raise UnknownModel("Name another model with the length of its vectors, as in text-embedding-3-large@3072.")
        made = self._remote(name, int(size))
        return self._by_name.setdefault(made.name, made)

    def of(self, name: str, dimensions: int) -> Embedder:
        """Return the embedder of a vector space that an index was made of; one that always fails if there is none."""
        if name not in self._by_name:
            self._by_name[name] = self._made(name, dimensions)
        return self._by_name[name]

    def serves(self, name: str, dimensions: int) -> bool:
        """Say whether this server has settings for a vector space."""
        return not isinstance(self.of(name, dimensions), AbsentEmbedder)

    def _made(self, name: str, dimensions: int) -> Embedder:
        local = local_embedder(name)
        if local is not None:
            return local
        model = name.removesuffix(f"-{dimensions}")
        if self._remote is None or model == name or name.startswith(LOCAL_PREFIX):
            return AbsentEmbedder(name, dimensions)
        return self._remote(model, dimensions)


def local_names() -> list[str]:
    """Return what operators call the local embedders."""
    return [f"local-{size}" for size in LOCAL_SIZES]


def local_embedder(model: str) -> LocalEmbedder | None:
    """Return the local embedder of this name, its short one or that of its vector space; None for any other."""
    for size in LOCAL_SIZES:
        embedder = LocalEmbedder(size)
        if model in (f"local-{size}", embedder.name):
            return embedder
    return None
