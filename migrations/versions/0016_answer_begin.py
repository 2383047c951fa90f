"""An answer and the hold that pays for it begin in one transaction."""

from migrations.script import execute

revision = "0016_answer_begin"
down_revision = "0015_candidate_pairs"


def upgrade() -> None:
    """Run the script of this revision."""
    execute("0016_answer_begin.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0016_answer_begin.down.sql")
