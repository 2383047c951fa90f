"""Indexes on pages that no query uses are gone."""

from migrations.script import execute

revision = "0012_page_bands"
down_revision = "0011_chunk_texts"


def upgrade() -> None:
    """Run the script of this revision."""
    execute("0012_page_bands.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0012_page_bands.down.sql")
