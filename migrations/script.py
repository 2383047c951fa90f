"""How a revision runs its SQL script: whole, through the driver, so that `:name` and `%` in it mean nothing."""

from pathlib import Path

from alembic import op

SCRIPTS = Path(__file__).parent / "sql"


def execute(name: str) -> None:
    """Run `migrations/sql/<name>` in the open migration transaction."""
    driver_connection = op.get_bind().connection.driver_connection
    if driver_connection is None:
        raise RuntimeError("the migration connection is closed")
    driver_connection.execute((SCRIPTS / name).read_text(encoding="utf-8"))
