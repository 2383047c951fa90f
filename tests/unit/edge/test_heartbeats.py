"""The contract's promise that no stream is silent for long, and how a silent step keeps it."""

import asyncio

import pytest

from server.admin import operations, syncs
from server.ingestion import service as ingestion
from server.quiz import making, writer
from server.quiz.writer import beating
from server.retrieval import following, journal

PROMISED_SECONDS = 15.0
LOOKS = {
    "answer": journal.HEARTBEAT_SECONDS + max(following.POLL_SECONDS),
    "quiz": writer.HEARTBEAT_SECONDS + making.POLL_SECONDS,
    "ingestion job": ingestion.HEARTBEAT_SECONDS + ingestion.POLL_SECONDS,
    "operation": operations.HEARTBEAT_SECONDS + operations.POLL_SECONDS,
    "sync": syncs.SILENT_SECONDS + operations.HEARTBEAT_SECONDS + operations.POLL_SECONDS,
}
"""The longest silence of each kind of stream: until a heartbeat is due, and until somebody looks."""


@pytest.mark.parametrize("stream", LOOKS)
def test_no_stream_is_silent_for_15_seconds(stream: str) -> None:
    assert LOOKS[stream] < PROMISED_SECONDS


async def test_work_that_is_silent_beats_until_it_brings_something() -> None:
    brought = asyncio.Event()
    beats: list[int] = []

    async def beat() -> None:
        beats.append(len(beats))
        if len(beats) == 3:
            brought.set()

    assert await beating(brought.wait(), beat, heartbeat_seconds=0.001)
    assert beats == [0, 1, 2]


async def test_a_cancel_ends_the_work_that_is_waited_for() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def beat() -> None: ...

    waiting = asyncio.create_task(beating(work(), beat))
    await began.wait()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert ended.is_set()
