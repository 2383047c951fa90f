"""Documents, pages, chunks, embedding references and full text."""

from migrations.script import execute

revision = "0004_corpus"
down_revision = "0003_wallet"


def upgrade() -> None:
    """Run the script of this revision."""
    execute("0004_corpus.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0004_corpus.down.sql")
