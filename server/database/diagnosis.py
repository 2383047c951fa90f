"""What a look from inside tells of a PostgreSQL server."""

from dataclasses import dataclass

from sqlalchemy import text

from server.database.pool import Database

_FACTS = text(
    """
    SELECT CAST(current_setting('server_version_num') AS integer) / 10000 AS major,
           CAST(extract(epoch FROM clock_timestamp()) AS double precision) AS clock_seconds,
           current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off' AS durable,
           (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user) AS unbound
    """
)


@dataclass(frozen=True, slots=True)
class Facts:
    """Major version, the server's clock in Unix seconds, whether what it acknowledges is on disk, and whether the
    server's own role is bound by no row-level security (which it must be)."""

    major: int
    clock_seconds: float
    durable: bool
    unbound: bool


async def facts(database: Database) -> Facts:
    """Ask the server. Raises StoreUnavailable."""
    async with database.transaction() as connection:
        return Facts(**(await connection.execute(_FACTS)).one()._mapping)
