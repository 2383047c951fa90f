"""Uploads, ingestion jobs and their audit trail."""

from migrations.script import execute

revision = "0005_ingestion"
down_revision = "0004_corpus"


def upgrade() -> None:
    """Run the script of this revision."""
    execute("0005_ingestion.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0005_ingestion.down.sql")
