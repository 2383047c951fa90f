"""Which version of the analyser made a chunk's search terms."""

from migrations.script import execute

revision = "0009_terms"
down_revision = "0008_operations"


def upgrade() -> None:
    """Run the script of this revision."""
    execute("0009_terms.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0009_terms.down.sql")
