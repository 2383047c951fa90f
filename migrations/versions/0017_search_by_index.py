"""A search looks its terms up in indexes, also in tables whose statistics are not known yet."""

from migrations.script import execute

revision = "0017_search_by_index"
down_revision = "0016_answer_begin"


def upgrade() -> None:
    """Run the script of this revision."""
    execute("0017_search_by_index.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0017_search_by_index.down.sql")
