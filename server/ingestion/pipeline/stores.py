"""The stores that a run writes to."""

from dataclasses import dataclass

from server.blobs.port import BlobStore
from server.corpus.service import CorpusService
from server.corpus.vectors import VectorRefs
from server.database.pool import Database
from server.vectors.port import VectorStore


@dataclass(frozen=True, slots=True)
class Stores:
    """PostgreSQL with the two services over it, files and vectors."""

    database: Database
    corpus: CorpusService
    refs: VectorRefs
    blobs: BlobStore
    vectors: VectorStore
