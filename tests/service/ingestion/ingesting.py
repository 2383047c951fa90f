"""The whole of ingestion over real stores, for tests: PostgreSQL, Milvus Lite, files in memory, reader processes."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from server import caller
from server.blobs.objects import open_blobs
from server.blobs.port import BlobStore
from server.blobs.tickets import Tickets
from server.corpus.passage import Document, Visibility
from server.corpus.service import CorpusService
from server.corpus.spaces import Space
from server.corpus.vectors import VectorRefs
from server.database.once import Once
from server.database.pool import Database
from server.ingestion.chunking import ChunkSize
from server.ingestion.extraction.page import Limits
from server.ingestion.extraction.worker import Extraction
from server.ingestion.job import Job, Placement
from server.ingestion.pipeline import Pipeline, Settings, Stores
from server.ingestion.pipeline.indexing import Targets
from server.ingestion.removal import Removal
from server.ingestion.scratch import Scratch
from server.ingestion.service import IngestionService
from server.ingestion.uploads import FileDescription, Uploads
from server.models.port import Embedder
from server.text.language import Language
from server.vectors.port import VectorFilter, VectorStore

SIZES = {
    Language.FRENCH: ChunkSize(512, 64),
    Language.ARABIC: ChunkSize(384, 48),
    Language.HASSANIYA: ChunkSize(384, 48),
}
MATHS = Placement("grade-12-math", "math", "12")
MAX_BYTES = 5_000_000
SAMPLES = Path(__file__).parents[3] / "samples"
EVERYTHING = VectorFilter(everything=True)


@dataclass
class Queue:
    """Takes runs as the real queue does; tests run them."""

    due: list[tuple[UUID, datetime | None]] = field(default_factory=list)

    async def enqueue(self, connection: AsyncConnection, job_id: UUID, *, scheduled_at: datetime | None = None) -> None:
        self.due.append((job_id, scheduled_at))

    def take(self) -> list[UUID]:
        taken, self.due = [job_id for job_id, _ in self.due], []
        return taken


@dataclass
class House:
    """Everything a test of ingestion needs, wired as the server does."""

    database: Database
    vectors: VectorStore
    index: str
    embedder: Embedder
    scratch: Path
    limits: Limits = field(default_factory=Limits)
    blob_url: str = "memory:///"

    def __post_init__(self) -> None:
        self.queue = Queue()
        self.blobs: BlobStore = open_blobs(self.blob_url, Tickets(b"s" * 32, "http://files.test"))
        self.corpus = CorpusService(self.database)
        self.refs = VectorRefs(self.database)
        once = Once(self.database)
        self.removal = Removal(self.database, self.corpus, self.blobs, self.vectors)
        self.uploads = Uploads(self.database, once, self.corpus, self.blobs, MAX_BYTES)
        self.service = IngestionService(self.database, once, self.corpus, self.removal, self.queue.enqueue)
        self.pipeline = self.pipeline_with(self.embedder)

    def pipeline_with(self, embedder: Embedder, *, limits: Limits | None = None, **stores: object) -> Pipeline:
        parts = {
            "database": self.database,
            "corpus": self.corpus,
            "refs": self.refs,
            "blobs": self.blobs,
            "vectors": self.vectors,
        }
        return Pipeline(
            Stores(**(parts | stores)),  # type: ignore[arg-type]
            Extraction(limits or self.limits),
            self._targets(embedder),
            self.removal,
            self.queue.enqueue,
            Settings(SIZES, Scratch(self.scratch)),
        )

    def _targets(self, embedder: Embedder) -> Targets:
        async def live() -> list[Space]:
            index = await self.vectors.live()
            return [Space(index or "", embedder)]

        return live

    async def upload(
        self, content: bytes, filename: str = "lesson.txt", visibility: Visibility = Visibility.SHARED
    ) -> Document:
        described = FileDescription(filename, "", visibility=visibility)
        return await self.uploads.upload_document(described, pieces(content), uuid4())

    async def ingest(self, content: bytes, filename: str = "lesson.txt", where: Placement = MATHS) -> Job:
        """Upload a file, ask for its ingestion and run what is queued; return the job as it stands then."""
        document = await self.upload(content, filename)
        job = await self.service.create_job(document.id, where, uuid4())
        await self.run_queued()
        return await self.service.job(job.id)

    async def run_queued(self, pipeline: Pipeline | None = None) -> None:
        for job_id in self.queue.take():
            with caller.acting_as(caller.system()):
                await (pipeline or self.pipeline).run(job_id)

    async def chunk_ids(self, document_id: UUID) -> set[str]:
        with caller.acting_as(caller.system()):
            return {chunk.id for chunk in await self.corpus.document_chunks(document_id)}

    async def vector_ids(self) -> set[str]:
        return await self.vectors.ids(self.index)


async def pieces(content: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()
