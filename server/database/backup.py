"""A copy of the whole database by PostgreSQL's own program: for the moment before a migration."""

import os
import shutil
import subprocess
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from server.database.errors import translated
from server.database.programs import PLAIN_ENVIRONMENT, installed

DUMP_SECONDS = 4 * 3_600.0
OWNER_ONLY = 0o600
RIGHTS = ("row-level security", "permission denied")
WHO_MAY = "BACMR_DATABASE_OWNER_URL must name a superuser or a login with BYPASSRLS for this"
"""pg_dump leaves no row out: it refuses a login that row-level security binds, the schema's owner too."""


class BackupError(Exception):
    """The copy could not be made; the message says what to do, and nothing half-done is left."""


def back_up(owner_url: str, folder: Path) -> Path:
    """Write the database to a new file in `folder` and return it; `pg_restore` reads it.

    `owner_url` must name a login that row-level security does not bind: a superuser, or one with BYPASSRLS. Raises
    BackupError, StoreUnavailable.
    """
    made = folder / f"bacmr-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.dump"
    unfinished = made.with_suffix(".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished.touch(mode=OWNER_ONLY, exist_ok=False)
    except OSError as error:
        raise BackupError(f"{folder} cannot hold a backup ({error.strerror}); name a folder of yours.") from None
    try:
        _dump(owner_url, unfinished)
        unfinished.rename(made)
    finally:
        unfinished.unlink(missing_ok=True)
    return made


def _dump(owner_url: str, file: Path) -> None:
    program = _program(_server_major(owner_url))
    # The password goes by the environment: every user of the machine can read a program's arguments.
    address = {name: str(value) for name, value in conninfo_to_dict(owner_url).items()}
    password = address.pop("password", "")
    command = [str(program), "--format=custom", f"--file={file}", f"--dbname={make_conninfo(**address)}"]
    environment = PLAIN_ENVIRONMENT | ({"PGPASSWORD": password} if password else {})
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=DUMP_SECONDS, env=environment, umask=0o077
        )
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines()[:1] or ["it said nothing"])[0].removeprefix("pg_dump: ")
        hint = f". {WHO_MAY}" if any(right in said for right in RIGHTS) else ""
        raise BackupError(f"pg_dump could not copy the database: {said}{hint}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackupError(f"pg_dump could not copy the database: {type(error).__name__}") from None


def _server_major(owner_url: str) -> int:
    with translated(), psycopg.connect(owner_url, connect_timeout=10) as connection:
        return connection.info.server_version // 10_000


def _program(server_major: int) -> Path:
    """Return the pg_dump nearest to the server's version: an older one cannot read it, and what a newer one writes may
    not go back: of 18, the pg_restore of 15 reads no file, and that of 18 sets what a server of 15 does not know."""
    on_path = shutil.which("pg_dump")
    folders = (*installed(), *([Path(on_path).parent] if on_path else []))
    programs = [folder / "pg_dump" for folder in folders if os.access(folder / "pg_dump", os.X_OK)]
    fit = [(major, program) for program in programs if (major := _major(program)) >= server_major]
    if not fit:
        raise BackupError(f"No pg_dump of version {server_major} or newer was found; install postgresql-client.")
    return min(fit, key=itemgetter(0))[1]


def _major(program: Path) -> int:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
        return int(said.split()[2].split(".")[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return 0
