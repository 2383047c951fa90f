"""Roles' rights, caller functions, idempotency, the job queue's tables."""

from migrations.script import execute

revision = "0001_foundation"
down_revision = None


def upgrade() -> None:
    """Run the scripts of this revision."""
    execute("0001_foundation.sql")
    execute("0001_procrastinate.sql")
    execute("0001_queue.sql")


def downgrade() -> None:
    """Undo them."""
    execute("0001_foundation.down.sql")
