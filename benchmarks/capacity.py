"""How ingestion grows, and what 10,000 documents (10 GB of files) would take: a scaled run and its projection.

Not among the topics that run by default: it ingests for four minutes (or 2,000 documents), two at a time as the server
does. A document is 20 pages, half French and half Arabic, made of the words of samples/; files of 1 MB hold about that
much when they are not scans. docs/capacity.md reads the figures.
"""

import asyncio
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import psycopg

from benchmarks import Row
from benchmarks.ingestion import Bench, furnished, sentences, shuffled
from server.corpus.passage import CorpusFilter

DOCUMENTS = 2_000
SECONDS = 240.0
AT_ONCE = 2
PAGES = 20
PAGE_SENTENCES = 27
TARGET = 10_000
GROWTH_REACH = 0.7
"""The first quarter's cost per document as a share of the last one's: 1 would be no growth at all."""
GIGA = 1e9
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Look:
    """What is used at a moment: documents done, CPU seconds of all processes, bytes of memory by program."""

    documents: int
    cpu_seconds: float
    memory: dict[str, int]


async def rows() -> list[Row]:
    """Run, and project to 10,000 documents of this kind."""
    async with furnished() as bench:
        empty = _on_disk(bench)
        began, look = perf_counter(), [Look(0, *_used())]
        await _ingest(bench, began, look)
        seconds = perf_counter() - began
        chunks = await bench.vectors.count(bench.index)
        on_disk = {store: size - empty[store] for store, size in _on_disk(bench).items()}
        searches = [await _search_seconds(bench) for _ in range(20)]
    return [*_measured(look, seconds, chunks, searches), *_projected(look, seconds, chunks, on_disk)]


async def _ingest(bench: Bench, began: float, look: list[Look]) -> None:
    numbers = iter(range(DOCUMENTS))
    done = 0

    async def work() -> None:
        nonlocal done
        for number in numbers:
            if perf_counter() - began > SECONDS:
                return
            await bench.ingest(await bench.upload(_document(number)))
            done += 1
            if done % 10 == 0:
                look.append(Look(done, *_used()))

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


def _measured(look: list[Look], seconds: float, chunks: int, searches: list[float]) -> list[Row]:
    first, last, quarter = look[0], look[-1], max(1, len(look) // 4)
    early, late = _cost(first, look[quarter]), _cost(look[-1 - quarter], last)
    memory = [Row(f"memory of {program}", size / 1e6, "MB", 0, 0, 0) for program, size in sorted(last.memory.items())]
    return [
        Row("documents ingested", last.documents, "", 0, 0, 0),
        Row("documents per minute, this machine as it is", last.documents / seconds * 60, "", 0, 0, 0),
        Row("chunks per document", chunks / last.documents, "", 0, 0, 0),
        Row("CPU per document, last quarter against first", late, "s", early, early / late, GROWTH_REACH),
        Row("full-text search, median", sorted(searches)[len(searches) // 2] * 1e3, "ms", 0, 0, 0),
        *memory,
    ]


def _projected(look: list[Look], seconds: float, chunks: int, on_disk: dict[str, int]) -> list[Row]:
    last = look[-1]
    times = TARGET / last.documents
    computing = last.cpu_seconds - look[0].cpu_seconds
    disk = [
        Row(f"10,000 documents: {store} on disk", size * times / GIGA, "GB", 0, 0, 0)
        for store, size in sorted(on_disk.items())
    ]
    return [
        Row("10,000 documents: chunks", chunks * times, "", 0, 0, 0),
        Row("10,000 documents: computing", computing * times / 3600, "core h", 0, 0, 0),
        Row("10,000 documents: time at this run's pace", seconds * times / 3600, "h", 0, 0, 0),
        *disk,
    ]


def _cost(before: Look, after: Look) -> float:
    return (after.cpu_seconds - before.cpu_seconds) / max(1, after.documents - before.documents)


async def _search_seconds(bench: Bench) -> float:
    began = perf_counter()
    await bench.corpus.search_text("énergie cinétique du mobile", CorpusFilter(), 10)
    return perf_counter() - began


def _on_disk(bench: Bench) -> dict[str, int]:
    with psycopg.connect(bench.owner_url) as connection:
        found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    vectors = sum(file.stat().st_size for file in (bench.folder / "milvus").rglob("*") if file.is_file())
    return {"PostgreSQL": int(found[0]) if found else 0, "Milvus Lite": vectors}


def _document(number: int) -> str:
    dice = random.Random(number)
    stocks = sentences("fr"), sentences("ar")
    return "\f".join(
        f"{number}.{page} " + " ".join(shuffled(one, dice) for one in dice.choices(stocks[page % 2], k=PAGE_SENTENCES))
        for page in range(PAGES)
    )


def _used() -> tuple[float, dict[str, int]]:
    """Return the CPU seconds that this process and all below it have used, and their memory in bytes by program."""
    seconds, memory = 0.0, dict.fromkeys(("PostgreSQL", "Milvus Lite", "the readers", "the server"), 0)
    for pid in _family():
        try:
            name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
            resident = Path(f"/proc/{pid}/smaps_rollup").read_text().split("Pss:")[1].split()[0]
            command = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue  # it has ended meanwhile; its parent counts its time
        user, system, children_user, children_system = map(int, rest.split()[11:15])
        seconds += (user + system + children_user + children_system) / TICKS
        memory[_program(pid, name, command)] += int(resident) * 1024
    return seconds, memory


def _program(pid: int, name: str, command: str) -> str:
    if pid == os.getpid():
        return "the server"
    if "(postgres" in name:
        return "PostgreSQL"
    return "the readers" if "server.ingestion.extraction" in command else "Milvus Lite"


def _family() -> Iterator[int]:
    waiting = [os.getpid()]
    while waiting:
        pid = waiting.pop()
        yield pid
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                waiting.extend(map(int, task.read_text().split()))
            except OSError:
                continue
