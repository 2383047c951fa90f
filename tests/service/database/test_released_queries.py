"""The release before this one goes on working while its servers are replaced: its queries fit the newest schema."""

import json

import psycopg
import pytest
from psycopg import sql

from server.database import migrate
from tests.conftest import Addresses

RELEASED = json.loads((migrate.FOLDER / "released_queries.json").read_text())


@pytest.mark.parametrize("name", sorted(RELEASED))
def test_a_released_statement_still_prepares(name: str, owner: psycopg.Connection) -> None:
    owner.execute(sql.SQL("PREPARE released AS {}").format(sql.SQL(RELEASED[name])))
    owner.execute("DEALLOCATE released")


def test_a_dropped_column_would_be_noticed(addresses: Addresses) -> None:
    with psycopg.connect(addresses.owner_url, options="-c search_path=bacmr") as session:
        session.execute("ALTER TABLE document RENAME COLUMN title TO heading")
        broken = [name for name, statement in RELEASED.items() if not prepares(session, statement)]
        session.rollback()
    assert any("corpus.store.documents" in name for name in broken)


def prepares(session: psycopg.Connection, statement: str) -> bool:
    try:
        with session.transaction():
            session.execute(f"PREPARE released AS {statement}")
            session.execute("DEALLOCATE released")
    except psycopg.errors.UndefinedColumn:
        return False
    return True
