"""Ingestion: chunking against plain tiktoken, a whole text against the sum of its parts run bare, pages by reader.

Each pair is measured in turns in one run, so that a busy machine slows both sides alike; ratios are medians of the
pairs'. The texts are put together from the sentences of samples/, so every run and every page has its own.
"""

import asyncio
import hashlib
import os
import random
import statistics
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from uuid import UUID, uuid4

import psycopg
import pypdfium2
from pdfminer.high_level import extract_text

from benchmarks import Row
from server import caller
from server.blobs.objects import open_blobs
from server.blobs.tickets import Tickets
from server.corpus import lexemes
from server.corpus.passage import Chunk, Document
from server.corpus.service import CorpusService
from server.corpus.spaces import Space
from server.corpus.vectors import VectorRefs
from server.database import migrate
from server.database.embedded import SERVER, EmbeddedPostgres
from server.database.once import Once
from server.database.pool import Connection, Database
from server.ingestion.chunking import ChunkSize, TextChunk, split
from server.ingestion.extraction.page import Limits
from server.ingestion.extraction.pdf import PdfFile
from server.ingestion.extraction.plain import paged
from server.ingestion.extraction.worker import Extraction
from server.ingestion.job import Placement
from server.ingestion.jobstate import JobState
from server.ingestion.judging import judge
from server.ingestion.pipeline import Pipeline, Settings, Stores
from server.ingestion.pipeline.indexing import EMBED_BATCH as BATCH
from server.ingestion.removal import Removal
from server.ingestion.scratch import Scratch
from server.ingestion.service import IngestionService
from server.ingestion.uploads import FileDescription, Uploads
from server.models.local.embedder import LocalEmbedder
from server.models.port import Purpose
from server.text import tokens
from server.text.language import Language
from server.text.sentences import spans
from server.vectors.filters import index_name
from server.vectors.lite import MilvusLite
from server.vectors.milvus import MilvusStore
from server.vectors.port import Vector, VectorRow

SAMPLES = Path(__file__).parents[1] / "samples"
FRENCH, ARABIC = ChunkSize(512, 64), ChunkSize(384, 48)
SIZES = {Language.FRENCH: FRENCH, Language.ARABIC: ARABIC, Language.HASSANIYA: ARABIC}
PAIRS = 5
PAGES = 150
PAGE_SENTENCES = 18
CHUNKING_REACH = 0.8
INGESTION_REACH = 0.7
WHERE = Placement("bench", "bench", "12")


async def rows() -> list[Row]:
    """Measure everything; takes about two minutes."""
    found = [chunking("French", sentences("fr"), FRENCH), chunking("Arabic", sentences("ar"), ARABIC)]
    found += [reading("French PDF pages, text layer", "physique_newton.pdf", _bare_pdfium)]
    found += [reading("Arabic PDF pages, reading order", "tarikh_mauritania.pdf", _bare_pdfminer)]
    async with furnished() as bench:
        found.append(await whole(bench))
    return found


def chunking(name: str, sentences: list[str], size: ChunkSize) -> Row:
    """Compare `split` with tiktoken's own encode, cut and decode of the same text, in CPU time."""
    text = " ".join(random.Random(1).choices(sentences, k=3_000))
    pages = [text[start : start + 3_000] for start in range(0, len(text), 3_000)]
    ours, plain = [], []
    for _ in range(PAIRS):
        plain.append(_cpu_seconds(lambda: [_plain_windows(page, size) for page in pages]))
        ours.append(_cpu_seconds(lambda: [split(page, size) for page in pages]))
    characters = sum(map(len, pages))
    ratio = statistics.median(bare / own for bare, own in zip(plain, ours, strict=True))
    rate, reference = characters / min(ours) / 1e6, characters / min(plain) / 1e6
    return Row(f"chunking, {name}", rate, "M characters/s", reference, ratio, CHUNKING_REACH)


def reading(name: str, sample: str, bare: Callable[[Path], object]) -> Row:
    """Compare our reader with a bare call of the library it stands on, over the same pages. Printed, no limit."""
    path = SAMPLES / sample
    ours, plain = [], []
    for _ in range(PAIRS):
        plain.append(_cpu_seconds(lambda: bare(path)))
        ours.append(_cpu_seconds(lambda: list(PdfFile(path, Limits()).pages())))
    count = PdfFile(path, Limits()).page_count
    ratio = statistics.median(one / other for one, other in zip(plain, ours, strict=True))
    return Row(name, count / min(ours), "pages/s", count / min(plain), ratio, 0.0)


async def whole(bench: "Bench") -> Row:
    """Compare a job with its parts run bare: judge the pages, tokenise, analyse, embed, COPY, upsert, flush."""
    ratios, rates, references = [], [], []
    await bench.ingest(await bench.upload(_pages(PAIRS)))  # once for what is read and prepared at first use
    for turn in range(PAIRS):
        text = _pages(turn)
        document = await bench.upload(text)
        began = perf_counter()
        await bench.ingest(document)
        ours = perf_counter() - began
        chunks = [_fresh(chunk) for chunk in await bench.corpus.document_chunks(document.id)]
        parts = await bench.bare(text, chunks)
        ratios.append(parts / ours)
        rates.append(len(chunks) / ours)
        references.append(len(chunks) / parts)
    ratio = statistics.median(ratios)
    return Row(
        "text to searchable",
        statistics.median(rates),
        "chunks/s",
        statistics.median(references),
        ratio,
        INGESTION_REACH,
    )


@dataclass(frozen=True, slots=True)
class Bench:
    """Ingestion as the server wires it, over embedded stores."""

    database: Database
    corpus: CorpusService
    uploads: Uploads
    service: IngestionService
    pipeline: Pipeline
    vectors: MilvusStore
    index: str
    embedder: LocalEmbedder
    owner_url: str
    folder: Path

    async def upload(self, text: str) -> Document:
        """Store a text as a document."""

        async def pieces() -> AsyncIterator[bytes]:
            yield text.encode()

        described = FileDescription(f"{uuid4()}.txt", "text/plain")
        return await self.uploads.upload_document(described, pieces(), uuid4())

    async def ingest(self, document: Document) -> None:
        """Run a job of the document to its end."""
        job = await self.service.create_job(document.id, WHERE, uuid4())
        await self.pipeline.run(job.id)
        ended = await self.service.job(job.id)
        if ended.state is not JobState.READY:
            raise RuntimeError(f"the job ended as {ended.state}: {ended.failure_reason}")

    async def bare(self, text: str, chunks: list[TextChunk]) -> float:
        """Return the seconds that the parts take one after another without anything around them."""
        began = perf_counter()
        judge(list(paged(text, Limits())))
        for chunk in chunks:
            tokens.count(chunk.text)
        indexed = [lexemes.of_passage(chunk.text) for chunk in chunks]
        matrices = [
            await self.embedder.embed([chunk.text for chunk in chunks[start : start + BATCH]], Purpose.PASSAGE)
            for start in range(0, len(chunks), BATCH)
        ]
        vectors = [vector for matrix in matrices for vector in matrix]
        async with await psycopg.AsyncConnection.connect(self.owner_url) as connection:
            await connection.execute(COPIED)
            async with connection.cursor().copy("COPY copied FROM STDIN") as copy:
                for chunk, each in zip(chunks, indexed, strict=True):
                    await copy.write_row([chunk.id, chunk.text, each.literal, chunk.content_hash])
        for start in range(0, len(chunks), BATCH):
            pairs = zip(chunks[start : start + BATCH], vectors[start : start + BATCH], strict=True)
            await self.vectors.upsert(self.index, [_row(chunk, vector) for chunk, vector in pairs])
        await self.vectors.flush(self.index)
        return perf_counter() - began


COPIED = """CREATE TEMP TABLE copied (id text PRIMARY KEY, text text, terms tsvector, content_hash text);
CREATE INDEX ON copied USING gin (terms)"""


@asynccontextmanager
async def furnished() -> AsyncIterator[Bench]:
    """Lend ingestion over stores of its own."""
    with tempfile.TemporaryDirectory(prefix="bacmr-bench-") as folder:
        os.chmod(folder, 0o711)
        server = EmbeddedPostgres(Path(folder) / "postgres").start()
        lite = MilvusLite(Path(folder) / "milvus")
        try:
            await asyncio.to_thread(migrate.upgrade, server.connection.owner_url(), app_login=SERVER)
            database = Database(server.connection.url())
            await database.open()
            vectors = MilvusStore(await lite.start(), timeout_seconds=60)
            with caller.acting_as(caller.system()):
                yield await _furnish(database, vectors, Path(folder), server.connection.owner_url())
            await vectors.close()
            await database.close()
        finally:
            await lite.stop()
            server.stop()


async def _furnish(database: Database, vectors: MilvusStore, folder: Path, owner_url: str) -> Bench:
    embedder = LocalEmbedder()
    index = index_name(embedder.name, embedder.dimensions)
    await vectors.create_index(index, embedder.dimensions)
    await vectors.activate(index)
    corpus, once = CorpusService(database), Once(database)
    blobs = open_blobs("memory:///", Tickets(b"s" * 32, "http://files.test"))
    removal = Removal(database, corpus, blobs, vectors)
    stores = Stores(database, corpus, VectorRefs(database), blobs, vectors)

    async def targets() -> list[Space]:
        return [Space(index, embedder)]

    pipeline = Pipeline(
        stores, Extraction(Limits()), targets, removal, _enqueue, Settings(SIZES, Scratch(folder / "scratch"))
    )
    return Bench(
        database,
        corpus,
        Uploads(database, once, corpus, blobs, 100_000_000),
        IngestionService(database, once, corpus, removal, _enqueue),
        pipeline,
        vectors,
        index,
        embedder,
        owner_url,
        folder,
    )


async def _enqueue(connection: Connection, job_id: UUID, *, scheduled_at: object = None) -> None:
    """The bench runs its jobs itself."""


def _fresh(chunk: Chunk) -> TextChunk:
    """Return a chunk under another id, so that the bare upsert adds rows as the job did."""
    return TextChunk(
        id=hashlib.sha256(f"bare {chunk.id}".encode()).hexdigest(),
        page=chunk.page,
        index=chunk.index,
        start=chunk.start,
        end=chunk.end,
        text=chunk.text,
        token_count=chunk.token_count,
        language=chunk.language,
        content_hash=chunk.content_hash,
    )


def _row(chunk: TextChunk, vector: Vector) -> VectorRow:
    return VectorRow(
        chunk.id, vector, UUID(int=1), WHERE.namespace, WHERE.subject, WHERE.grade, chunk.language, owner_id=None
    )


def _pages(turn: int) -> str:
    """Return a text of PAGES pages that no other turn has, half French and half Arabic.

    Words are shuffled within their sentences: pages of whole sentences from a small stock would look like copies.
    """
    dice = random.Random(turn)
    french, arabic = sentences("fr"), sentences("ar")
    return "\f".join(
        f"{turn}.{page} "
        + " ".join(shuffled(one, dice) for one in dice.sample(arabic if page % 2 else french, k=PAGE_SENTENCES))
        for page in range(PAGES)
    )


def shuffled(sentence: str, dice: random.Random) -> str:
    """Return a sentence with its words in another order."""
    words = sentence.rstrip(".").split()
    dice.shuffle(words)
    return " ".join(words) + "."


def sentences(language: str) -> list[str]:
    """Return the sentences of the samples in a language."""
    names: tuple[str, ...] = ("maths_suites", "physique_newton", "biologie_photosynthese")
    if language == "ar":
        names = ("falsafa_haqiqa", "tarikh_mauritania")
    texts = [(SAMPLES / f"{name}.md").read_text(encoding="utf-8") for name in names]
    return [text[start:end] for text in texts for start, end in spans(text)]


def _plain_windows(text: str, size: ChunkSize) -> list[str]:
    encoding = tokens.encoding()
    encoded = encoding.encode_ordinary(text)
    step = size.tokens - size.overlap_tokens
    return [encoding.decode(encoded[start : start + size.tokens]) for start in range(0, len(encoded), step)]


def _bare_pdfium(path: Path) -> list[str]:
    document = pypdfium2.PdfDocument(path)
    texts = [page.get_textpage().get_text_range() for page in document]
    document.close()
    return texts


def _bare_pdfminer(path: Path) -> str:
    return str(extract_text(path))


def _cpu_seconds(act: Callable[[], object]) -> float:
    began = process_time()
    act()
    return process_time() - began
