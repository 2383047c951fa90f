"""Accounts, signed-in devices, refresh tokens, failed sign-ins and the claims rule."""

from migrations.script import execute

revision = "0002_accounts"
down_revision = "0001_foundation"


def upgrade() -> None:
    """Run the script of this revision."""
    execute("0002_accounts.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0002_accounts.down.sql")
