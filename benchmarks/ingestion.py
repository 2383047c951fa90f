"""Ingestion: chunking against plain tiktoken, a whole text against the sum of its parts run bare, pages by reader.

Each pair is measured in turns in one run, so that a busy machine slows both sides alike; ratios are medians of the
pairs'. The texts are put together from the sentences of samples/, so every run and every page has its own.
"""

import asyncio
import os
import random
import statistics
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from uuid import UUID, uuid4

import pypdfium2
from pdfminer.high_level import extract_text

from benchmarks import Row
from server import caller
from server.blobs.objects import open_blobs
from server.blobs.tickets import Tickets
from server.corpus.passage import Document
from server.corpus.service import CorpusService
from server.corpus.vectors import VectorRefs
from server.database import migrate
from server.database.embedded import SERVER, EmbeddedPostgres
from server.database.once import Once
from server.database.pool import Connection, Database
from server.ingestion.chunking import ChunkSize, PageText, TextChunk, chunk_pages, split
from server.ingestion.extraction.page import Limits
from server.ingestion.extraction.pdf import PdfFile
from server.ingestion.extraction.worker import Extraction
from server.ingestion.job import Placement
from server.ingestion.jobstate import JobState
from server.ingestion.pipeline import Pipeline, Settings, Stores
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
from server.vectors.port import VectorRow

SAMPLES = Path(__file__).parents[1] / "samples"
FRENCH, ARABIC = ChunkSize(512, 64), ChunkSize(384, 48)
SIZES = {Language.FRENCH: FRENCH, Language.ARABIC: ARABIC, Language.HASSANIYA: ARABIC}
PAIRS = 5
INGESTED_PAIRS = 3
PAGES = 150
PAGE_SENTENCES = 18
CHUNKING_REACH = 0.8
INGESTION_REACH = 0.7
BATCH = 64
WHERE = Placement("bench", "bench", "12")


async def rows() -> list[Row]:
    """Measure everything; takes about two minutes."""
    found = [chunking("French", _sentences("fr"), FRENCH), chunking("Arabic", _sentences("ar"), ARABIC)]
    found += [reading("French PDF pages, text layer", "physique_newton.pdf", _bare_pdfium)]
    found += [reading("Arabic PDF pages, reading order", "tarikh_mauritania.pdf", _bare_pdfminer)]
    async with _bench() as bench:
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
    """Compare a job, from the queue to READY, with tokenising, embedding, copying and upserting its chunks bare."""
    ratios, rates, references = [], [], []
    for turn in range(INGESTED_PAIRS):
        document = await bench.upload(_pages(turn))
        began = perf_counter()
        await bench.ingest(document)
        ours = perf_counter() - began
        chunks = [_fresh(chunk) for chunk in await bench.corpus.document_chunks(document.id)]
        parts = await bench.bare(chunks)
        ratios.append(parts / ours)
        rates.append(len(chunks) / ours)
        references.append(len(chunks) / parts)
    ratio = statistics.median(ratios)
    return Row(
        "text to searchable", statistics.median(rates), "chunks/s", statistics.median(references), ratio, INGESTION_REACH
    )
