"""An answer ends and its hold is settled in one transaction."""

from migrations.script import execute

revision = "0018_answer_end"
down_revision = "0017_search_by_index"


def upgrade() -> None:
    """Run the script of this revision."""
    execute("0018_answer_end.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0018_answer_end.down.sql")
