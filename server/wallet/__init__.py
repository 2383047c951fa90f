"""Prepaid tokens: balances, reservations and the append-only ledger."""
