"""Alembic's entry: runs the migrations on the connection that `server.database.migrate` opened and locked."""

from alembic import context
from sqlalchemy import Connection, text

SCHEMA = "bacmr"


def run(connection: Connection) -> None:
    """Run each migration in a transaction of its own, as the owner of the schema."""
    connection.execute(text("SET ROLE bacmr_owner"))
    connection.execute(text(f"SET search_path = {SCHEMA}"))
    connection.commit()
    context.configure(connection=connection, version_table_schema=SCHEMA, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])
