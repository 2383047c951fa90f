"""Conversations, answers and their stored events."""

from migrations.script import execute

revision = "0006_answers"
down_revision = "0005_ingestion"


def upgrade() -> None:
    """Run the script of this revision."""
    execute("0006_answers.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0006_answers.down.sql")
