"""The auth room over a real database."""

from collections.abc import Callable
from pathlib import Path

import pytest

from server.database.pool import Database
from tests.service.auth.house import House


@pytest.fixture
def new_house(database: Database, tmp_path: Path) -> Callable[..., House]:
    """A function that starts another process's auth room over the same database and keys."""

    def make(**changes: object) -> House:
        return House(database, tmp_path / "keys", **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture
def house(new_house: Callable[..., House]) -> House:
    """The auth room."""
    return new_house()
