"""Alembic migrations: one numbered revision per room, each running the SQL script of its name."""
