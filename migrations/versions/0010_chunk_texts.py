"""The texts behind search hits in one round trip."""

from migrations.script import execute

revision = "0010_chunk_texts"
down_revision = "0008_operations"


def upgrade() -> None:
    """Run the script of this revision."""
    execute("0010_chunk_texts.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0010_chunk_texts.down.sql")
