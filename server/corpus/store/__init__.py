"""The corpus' SQL, by what it is about."""

from server.corpus.store.chunks import ChunkStore
from server.corpus.store.documents import DocumentStore
from server.corpus.store.indexes import IndexStore
from server.corpus.store.terms import TermStore
from server.corpus.store.vectors import VectorRefStore

__all__ = ["ChunkStore", "DocumentStore", "IndexStore", "TermStore", "VectorRefStore"]
