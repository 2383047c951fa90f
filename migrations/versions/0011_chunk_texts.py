"""The texts behind search hits in one round trip."""

from migrations.script import execute

revision = "0011_chunk_texts"
down_revision = "0010_reconciliation"


def upgrade() -> None:
    """Run the script of this revision."""
    execute("0011_chunk_texts.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0011_chunk_texts.down.sql")
