"""Wallets, reservations, vouchers and the hash-chained ledger."""

from migrations.script import execute

revision = "0003_wallet"
down_revision = "0002_accounts"


def upgrade() -> None:
    """Run the scripts of this revision: tables, holds, credits, checks."""
    execute("0003_wallet.sql")
    execute("0003_wallet_holds.sql")
    execute("0003_wallet_credits.sql")
    execute("0003_wallet_checks.sql")


def downgrade() -> None:
    """Undo it."""
    execute("0003_wallet.down.sql")
