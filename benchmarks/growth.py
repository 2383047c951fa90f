"""Searches in a library of 100,000 chunks, five times the usual benchmark's; some minutes for filling it."""

from contextlib import AsyncExitStack

from benchmarks import Row
from benchmarks.answers import searches
from benchmarks.library import furnished

CHUNKS = 100_000
SAMPLES = 30


async def rows() -> list[Row]:
    """Measure searches as `benchmarks.answers` does."""
    async with AsyncExitStack() as stack:
        bench = await furnished(stack)
        await bench.grow(CHUNKS)
        return await searches(bench, CHUNKS, SAMPLES)
