"""Write every SQL statement of the server into migrations/released_queries.json; run it when a release is cut.

Servers of one release go on working while the next one's migrations are in: the suite prepares what is recorded here on
the newest schema. A migration that breaks a statement must wait until no released server sends it any more.
"""

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.sql.elements import TextClause

import server

RECORD = Path(__file__).parents[1] / "migrations" / "released_queries.json"
STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b.*\s", re.DOTALL)
PLACEHOLDER = re.compile(r"%(?:\((\w+)\))?s")


def statements() -> Iterator[tuple[str, str]]:
    """Yield each statement by its full name, with numbered placeholders. Templates are filled at run time: left out."""
    for module in pkgutil.walk_packages(server.__path__, "server."):
        if ".store" in module.name or module.name.startswith("server.database."):
            for name, value in vars(importlib.import_module(module.name)).items():
                statement = sent(value)
                if STATEMENT.match(statement) and not (name.startswith("_") and isinstance(value, str)):
                    yield f"{module.name}.{name}", statement


def sent(value: object) -> str:
    """Return a statement as PostgreSQL gets it, one number per parameter; nothing for what is no whole statement."""
    if isinstance(value, TextClause):
        value = str(value.compile(dialect=psycopg.dialect()))
    if not isinstance(value, str) or "{" in value:
        return ""
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        name = found[1] or f"the {len(numbers) + 1}th"
        return f"${numbers.setdefault(name, len(numbers) + 1)}"

    return PLACEHOLDER.sub(number, value).replace("%%", "%")


if __name__ == "__main__":
    RECORD.write_text(json.dumps(dict(statements()), indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    print(f"{len(json.loads(RECORD.read_text()))} statements recorded")
