"""Whether the library holds anything in a language is told by an index."""

from migrations.script import execute

revision = "0013_chunk_language"
down_revision = "0012_page_bands"


def upgrade() -> None:
    """Run the script of this revision."""
    execute("0013_chunk_language.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0013_chunk_language.down.sql")
