"""A server's login may read at which revision the schema stands."""

from migrations.script import execute

revision = "0019_revision_told"
down_revision = "0018_answer_end"


def upgrade() -> None:
    """Run the script of this revision."""
    execute("0019_revision_told.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0019_revision_told.down.sql")
