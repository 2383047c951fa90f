"""Processes and students for the tests of answers."""

from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

from server.caller import Caller, acting_as, system
from server.database.pool import Database
from server.retrieval.usage import charges_match_usage
from server.wallet.service import WalletService
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


@pytest_asyncio.fixture(scope="module", autouse=True)
async def books(database: Database) -> AsyncIterator[None]:
    """Whatever the tests of a module did to answers, all charges must fit in the end."""
    yield
    with acting_as(system()):
        report = await WalletService(database, foreign_checks=[charges_match_usage]).reconcile()
    assert [check for check in report.checks if not check.ok] == []
