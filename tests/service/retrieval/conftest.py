"""Processes and students for the tests of answers."""

from collections.abc import AsyncIterator
from functools import partial

import pytest

from server.caller import Caller
from server.database.pool import Database
from tests.service.retrieval.retrieving import Process, running


@pytest.fixture
def start_process(database: Database):
    """A function that runs a process over this module's database."""
    return partial(running, database)


@pytest.fixture
async def process(start_process) -> AsyncIterator[Process]:
    async with start_process() as started:
        yield started


@pytest.fixture
def student(make_user) -> Caller:
    return make_user(tokens=20_000)
