"""Schema migrations: Alembic, driven from here, one migrator at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from server.database.errors import translated

FOLDER = Path(__file__).parents[2] / "migrations"
SCHEMA = "bacmr"
ADVISORY_LOCK = 0x6261636D72
"""The bytes of "bacmr": only one migrator works on a database at a time."""
WAIT_FOR_MIGRATOR = "10min"
WAIT_FOR_TABLE = "5s"
"""A migration that gets no table lock fails and can be tried again, instead of holding up all traffic behind it."""


class MissingRight(Exception):
    """The login may not do what was asked of it; the message says which one may."""


def upgrade(owner_url: str, revision: str = "head", app_login: str = "") -> None:
    """Bring the schema up to `revision`; does nothing when it is there, or is newer than this code knows.

    Newer ones only add, so that the release before goes on working: code is rolled back without its schema.
    `owner_url` must name a superuser, or a login with CREATEROLE that owns the database. `app_login` is the login of
    the running server: it is allowed to act as bacmr_app. Raises MissingRight.
    """
    with _migrator(owner_url) as connection:
        if revision == "head" and not known(_revision(connection)):
            return
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
    """Return the database's revision, or None when it has none. Raises MissingRight.

    Any login that may act as bacmr_app may ask.
    """
    with _rightfully(), _connected(url) as connection:
        try:
            return _revision(connection)
        except DBAPIError as error:
            if not isinstance(error.orig, InsufficientPrivilege):
                raise
        # A login with NOINHERIT has its rights only in the role.
        connection.rollback()
        connection.execute(text("SET ROLE bacmr_app"))
        return _revision(connection)


def known(revision: str | None) -> bool:
    """Say whether this code brings a revision; the schema of a newer release has one that it does not."""
    return revision in {None, *(script.revision for script in _scripts().walk_revisions())}


def head() -> str:
    """Return the newest revision that this code brings."""
    newest = _scripts().get_current_head()
    if newest is None:
        raise RuntimeError(f"no migrations in {FOLDER}")
    return newest


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(FOLDER))


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA}).get_current_revision()


@contextmanager
def _rightfully() -> Iterator[None]:
    try:
        with translated():
            yield
    except (DBAPIError, InsufficientPrivilege) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if not isinstance(cause, InsufficientPrivilege):
            raise
        raise MissingRight(
            f"The login may neither migrate nor read a schema of this age ({cause.diag.message_primary}). Run"
            " `bacmr migrate` with BACMR_DATABASE_OWNER_URL set to the schema's owner or a superuser, then start again."
        ) from error


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
    with _rightfully(), _connected(owner_url) as connection:
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
