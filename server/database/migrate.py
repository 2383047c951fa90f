"""Schema migrations: Alembic, driven from here, one migrator at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Connection, create_engine, make_url, text

from server.database.errors import translated

FOLDER = Path(__file__).parents[2] / "migrations"
SCHEMA = "bacmr"
ADVISORY_LOCK = 0x6261636D72
"""The bytes of "bacmr": only one migrator works on a database at a time."""
WAIT_FOR_MIGRATOR = "10min"
WAIT_FOR_TABLE = "5s"
"""A migration that gets no table lock fails and can be tried again, instead of holding up all traffic behind it."""


def upgrade(owner_url: str, revision: str = "head", app_login: str = "") -> None:
    """Bring the schema up to `revision`; does nothing when it is there.

    `owner_url` must name a superuser, or a login with CREATEROLE that owns the database. `app_login` is the login of
    the running server: it is allowed to act as bacmr_app.
    """
    with _migrator(owner_url) as connection:
        connection.connection.cursor().execute((FOLDER / "sql" / "bootstrap.sql").read_text(encoding="utf-8"))
        if app_login:
            grant = sql.SQL("GRANT bacmr_app TO {}").format(sql.Identifier(app_login))
            connection.execute(text(grant.as_string()))
        connection.commit()
        command.upgrade(_config(connection), revision)


def downgrade(owner_url: str, revision: str) -> None:
    """Take the schema back to `revision` (or `base`); what the newer ones stored is lost."""
    with _migrator(owner_url) as connection:
        command.downgrade(_config(connection), revision)


def current(url: str) -> str | None:
    """Return the database's revision, or None when it has none."""
    with translated(), _connected(url) as connection:
        return MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA}).get_current_revision()


def head() -> str:
    """Return the newest revision that this code brings."""
    newest = ScriptDirectory(str(FOLDER)).get_current_head()
    if newest is None:
        raise RuntimeError(f"no migrations in {FOLDER}")
    return newest


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), connect_args={"connect_timeout": 10})
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def _migrator(owner_url: str) -> Iterator[Connection]:
    with translated(), _connected(owner_url) as connection:
        connection.execute(text(f"SET lock_timeout = '{WAIT_FOR_MIGRATOR}'"))
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
        connection.execute(text(f"SET lock_timeout = '{WAIT_FOR_TABLE}'"))
        connection.commit()
        # Closing the connection lets the lock go, also after an error.
        yield connection


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = connection
    return config
