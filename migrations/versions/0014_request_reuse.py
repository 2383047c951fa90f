"""A request_id used for something else is told before what it asks for is looked up."""

from migrations.script import execute

revision = "0014_request_reuse"
down_revision = "0013_chunk_language"


def upgrade() -> None:
    """Run the script of this revision."""
    execute("0014_request_reuse.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0014_request_reuse.down.sql")
