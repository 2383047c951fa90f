"""Quizzes, attempts and reviews."""

from migrations.script import execute

revision = "0007_quiz"
down_revision = "0006_answers"


def upgrade() -> None:
    """Run the script of this revision."""
    execute("0007_quiz.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0007_quiz.down.sql")
