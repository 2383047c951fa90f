"""What each check of the last reconciliation found."""

from migrations.script import execute

revision = "0010_reconciliation"
down_revision = "0009_terms"


def upgrade() -> None:
    """Run the script of this revision."""
    execute("0010_reconciliation.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0010_reconciliation.down.sql")
