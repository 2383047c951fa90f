"""Conversations, answers and their stored events."""

from migrations.script import execute

revision = "0006_answers"
down_revision = "0005_ingestion"


def upgrade() -> None:
    """Run the scripts of this revision: tables, then the functions that make answers."""
    execute("0006_answers.sql")
    execute("0006_model_usage.sql")
    execute("0006_answers_making.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0006_answers.down.sql")
