"""Full-text search ranks chunks that hold two of a question's common words, not only those with a rare one."""

from migrations.script import execute

revision = "0015_candidate_pairs"
down_revision = "0014_request_reuse"


def upgrade() -> None:
    """Run the script of this revision."""
    execute("0015_candidate_pairs.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0015_candidate_pairs.down.sql")
