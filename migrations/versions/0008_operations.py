"""Audit trail, sources, long-running operations and job runs."""

from migrations.script import execute

revision = "0008_operations"
down_revision = "0007_quiz"


def upgrade() -> None:
    """Run the script of this revision."""
    execute("0008_operations.sql")
    execute("0008_recovery.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0008_recovery.down.sql")
    execute("0008_operations.down.sql")
