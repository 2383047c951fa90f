"""A PostgreSQL as a deployment has it: new, with the logins that roles.sql makes and nothing else of ours."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from server.database.embedded import EmbeddedPostgres

ROLES = Path(__file__).parents[1] / "deploy" / "postgres" / "roles.sql"


@contextmanager
def cluster_with_roles() -> Iterator[EmbeddedPostgres]:
    """Start a new cluster, of the version that the whole run has, and run roles.sql on it with psql."""
    major = int(os.environ.get("BACMR_TEST_POSTGRES", "0")) or None
    with tempfile.TemporaryDirectory(prefix="bacmr-test-") as name:
        folder = Path(name)
        os.chmod(folder, 0o711)
        server = EmbeddedPostgres(folder / "postgres", durable=False, major=major).start()
        try:
            # The embedded server comes with both; a new cluster of your own has neither.
            with psycopg.connect(server.connection.owner_url("postgres"), autocommit=True) as admin:
                admin.execute("DROP DATABASE bacmr")
                admin.execute("DROP ROLE bacmr_server")
            for login in ("migrator", "server"):
                (folder / f"postgres_{login}_password").write_text(f"{login}'s")
            subprocess.run(
                ["psql", server.connection.owner_url("postgres"), "--file", ROLES],
                env={**os.environ, "SECRETS": name},
                check=True,
                capture_output=True,
                timeout=60,
            )
            yield server
        finally:
            server.stop()


def address(cluster: EmbeddedPostgres, login: str) -> str:
    """Return where a login of roles.sql connects to."""
    return f"postgresql://bacmr_{login}:{login}%27s@/bacmr?host={cluster.connection.host}"
