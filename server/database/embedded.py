"""The embedded PostgreSQL: one server per folder that starts and stops with us, and never touches another process."""

import asyncio
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self
from urllib.parse import quote

import psycopg
import structlog
from psycopg import sql

from server.database import postmaster
from server.database.programs import Account, EmbeddedError, Programs, account, find, installed, user_name

__all__ = ["AlreadyServed", "Connection", "EmbeddedError", "EmbeddedPostgres", "attach_or_start"]

ADMIN = "bacmr_admin"
SERVER = "bacmr_server"
"""Login of the running server; the migrations let it act as bacmr_app and nothing else."""
DATABASE = "bacmr"
DEFAULT_PORT = 5432
SOCKET_PATH_BYTES = 107
"""Longest unix socket path that Linux accepts (`sun_path` without its final zero)."""
START_SECONDS = 60.0
EXIT_RETRY_SECONDS = 10.0
WATCH_SECONDS = 0.5

log = structlog.get_logger(__name__)


class AlreadyServed(EmbeddedError):
    """Another process serves this folder; attach to it or choose another folder."""


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach an embedded server: socket folder (or loopback address), port and the two logins' passwords."""

    host: str
    port: int
    admin_password: str
    server_password: str

    def url(self, database: str = DATABASE) -> str:
        """Return the address that the running server connects with; it can only act as bacmr_app."""
        return self._url(SERVER, self.server_password, database)

    def owner_url(self, database: str = DATABASE) -> str:
        """Return the superuser's address, for migrations, backups and tests."""
        return self._url(ADMIN, self.admin_password, database)

    def _url(self, user: str, password: str, database: str) -> str:
        return f"postgresql://{user}:{quote(password)}@/{database}?host={quote(self.host, safe='')}&port={self.port}"


class EmbeddedPostgres:
    """A PostgreSQL of our own under `folder`.

    `start` initialises the folder when it is new; all methods are for the main thread. `durable=False` trades safety
    for speed and is for tests. Without `tcp_port` only a unix socket listens. All failures are `EmbeddedError`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = True,
        tcp_port: int | None = None,
        os_user: str = "",
        major: int | None = None,
        max_connections: int = 100,
    ) -> None:
        self.folder = folder.absolute()
        self._max_connections = max_connections
        self._durable = durable
        self._tcp_port = tcp_port
        self._os_user = os_user
        self._major = major
        self._data = self.folder / "data"
        self._log = self.folder / "postgres.log"
        self._lock: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._account: Account | None = None
        self._programs: Programs | None = None

    @property
    def connection(self) -> Connection:
        """How to reach the server; only after `start` or `attach`."""
        if self._connection is None:
            raise RuntimeError("the embedded PostgreSQL is not started")
        return self._connection

    @property
    def pid(self) -> int | None:
        """Process number of the server that we started, or None."""
        return self._process.pid if self._process else None

    def start(self, timeout_seconds: float = START_SECONDS) -> Self:
        """Start the server and wait until it answers. Raises AlreadyServed when another process serves the folder."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("start the embedded PostgreSQL from the main thread: it stops when its thread ends")
        try:
            self._take_lock()
            self._prepare()
            self._launch(timeout_seconds)
        except OSError as error:
            self.stop()
            raise EmbeddedError(
                f"The folder {self.folder} cannot be used ({error.strerror or error}); "
                "make it writable for this user or choose another data folder (BACMR_DATA_DIR)."
            ) from error
        except BaseException:
            self.stop()
            raise
        return self

    def attach(self) -> bool:
        """Use the server that another process of ours runs on this folder; False when none answers."""
        try:
            where = json.loads((self.folder / "connection.json").read_text())
            connection = Connection(where["host"], where["port"], **self._stored_passwords())
        except (OSError, ValueError, KeyError, TypeError):
            return False
        if _answers(connection):
            self._connection = connection
            return True
        return False

    def stop(self) -> None:
        """Shut the server down if we started it, and let others have the folder. May be called twice."""
        if self._process is not None:
            postmaster.stop(self._process)
            self._process = None
            (self.folder / "connection.json").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def supervise(self) -> None:
        """Start the server again whenever it dies, until cancelled. Runs on the main thread's event loop."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._process is None or self._process.poll() is None:
                continue
            log.error("embedded_postgres_died", returncode=self._process.returncode)
            try:
                self._spawn()
            except (EmbeddedError, OSError) as error:
                log.error("embedded_postgres_not_restarted", reason=str(error))

    def _take_lock(self) -> None:
        missing = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        for path in reversed(missing):
            # Searchable but not readable: the database's user must get through to its own folders below.
            path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
        lock = (self.folder / "lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise AlreadyServed(
                f"Another server runs on {self.folder}; stop it or choose another data folder (BACMR_DATA_DIR)."
            ) from None
        self._lock = lock

    def _prepare(self) -> None:
        user = self._account = self._owner() or account(self._os_user)
        if not user.may("x", self.folder):
            raise EmbeddedError(
                f"PostgreSQL runs as user {user.name}, who cannot reach {self.folder}; choose a data folder outside "
                "of private folders such as /root (BACMR_DATA_DIR), or let others pass its parents (chmod o+x)."
            )
        version_file = self._data / "PG_VERSION"
        major = int(version_file.read_text()) if version_file.exists() else self._major
        self._programs = find(user, self.folder / "programs", installed(), major)
        passwords = self._passwords(fresh=not version_file.exists())
        self._connection = Connection(str(self._socket_folder(user)), self._tcp_port or DEFAULT_PORT, **passwords)
        if not version_file.exists():
            self._initialise(user, self._programs, passwords["admin_password"])

    def _owner(self) -> Account | None:
        """Return the owner of an existing data folder when we are root: PostgreSQL insists on being that user."""
        if os.geteuid() != 0 or not self._data.exists():
            return None
        found = self._data.stat()
        if found.st_uid == 0:
            name = account(self._os_user).name
            raise EmbeddedError(
                f"{self._data} belongs to root, as whom PostgreSQL does not run; "
                f"give it back: chown -R {name} {self._data}"
            )
        return Account(user_name(found.st_uid), found.st_uid, found.st_gid, switch=True)

    def _passwords(self, fresh: bool) -> dict[str, str]:
        path = self.folder / "credentials.json"
        if fresh:
            made = {name: secrets.token_urlsafe(24) for name in ("admin_password", "server_password")}
            _write_private(path, made)
            return made
        try:
            return self._stored_passwords()
        except (OSError, ValueError, KeyError) as error:
            raise EmbeddedError(
                f"{path} is missing or damaged; restore it, it holds the database's passwords."
            ) from error

    def _stored_passwords(self) -> dict[str, str]:
        stored = json.loads((self.folder / "credentials.json").read_text())
        return {name: stored[name] for name in ("admin_password", "server_password")}

    def _socket_folder(self, user: Account) -> Path:
        """Return a folder for the socket that only `user` may enter, with a path short enough for the kernel."""
        chosen = self.folder / "run"
        name = f"/.s.PGSQL.{self._tcp_port or DEFAULT_PORT}"
        if len(os.fsencode(chosen)) + len(name) > SOCKET_PATH_BYTES:
            digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
            parent = Path("/run") if os.geteuid() == 0 else Path(tempfile.gettempdir())
            chosen = parent / f"bacmr-{user.uid}-{digest}"
        try:
            chosen.mkdir(mode=0o700)
            user.own(chosen)
        except FileExistsError:
            if chosen.is_symlink() or chosen.stat().st_uid != user.uid:
                raise EmbeddedError(f"{chosen} belongs to another user; remove it and try again.") from None
        return chosen

    def _initialise(self, user: Account, programs: Programs, password: str) -> None:
        """Make the data folder whole or not at all: it gets its name only when initdb is through."""
        unfinished = self.folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        user.own(unfinished)
        password_file = Path(self.connection.host) / "password"
        _write_private(password_file, password)
        user.own(password_file)
        locale = ["--locale=C.UTF-8"]
        if programs.major >= 17:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        try:
            user.run(
                programs.folder / "initdb", "-D", unfinished, "-U", ADMIN, f"--pwfile={password_file}",
                "--auth=scram-sha-256", "--encoding=UTF8", "--data-checksums", "--no-instructions", *locale,
                *([] if self._durable else ["--no-sync"]),
            )  # fmt: skip
        except subprocess.SubprocessError as error:
            detail = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
            raise EmbeddedError(f"PostgreSQL could not make its folder {self._data}: {detail}") from error
        finally:
            password_file.unlink(missing_ok=True)
        unfinished.rename(self._data)

    def _launch(self, timeout_seconds: float) -> None:
        """Spawn and wait; a server that exits at once is tried again, since a killed one's shared memory lingers."""
        started_at = time.monotonic()
        process = self._spawn()
        while not _answers(self.connection):
            exited = process.poll()
            if time.monotonic() - started_at > (timeout_seconds if exited is None else EXIT_RETRY_SECONDS):
                state = "did not answer in time" if exited is None else f"exited with {exited}"
                raise EmbeddedError(f"PostgreSQL {state}; {self._log} says why.")
            if exited is not None:
                time.sleep(WATCH_SECONDS)
                process = self._spawn()
            time.sleep(postmaster.POLL_SECONDS)
        _provision(self.connection)
        _write_private(self.folder / "connection.json", {"host": self.connection.host, "port": self.connection.port})

    def _spawn(self) -> subprocess.Popen[bytes]:
        if self._programs is None or self._account is None:
            raise RuntimeError("the embedded PostgreSQL is not prepared")
        connection = self.connection
        socket_lock = Path(connection.host) / f".s.PGSQL.{connection.port}.lock"
        postmaster.clear_stale(self._data, (self._data / "postmaster.pid", socket_lock))
        options = [part for name, value in self._options().items() for part in ("-c", f"{name}={value}")]
        command: list[str | Path] = [self._programs.folder / "postgres", "-D", self._data, *options]
        self._process = postmaster.spawn(command, self._account, self._log)
        return self._process

    def _options(self) -> dict[str, str]:
        options = {
            "unix_socket_directories": self.connection.host,
            "listen_addresses": "127.0.0.1" if self._tcp_port else "",
            "port": str(self.connection.port),
            "max_connections": str(self._max_connections),
            "shared_buffers": "256MB" if self._durable else "64MB",
            "max_parallel_workers_per_gather": "0",
            "timezone": "UTC",
            "jit": "off",
            "log_min_duration_statement": "1000",
            "log_parameter_max_length": "0",
            "log_parameter_max_length_on_error": "0",
        }
        if not self._durable:
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        return options


def attach_or_start(folder: Path, timeout_seconds: float = START_SECONDS) -> EmbeddedPostgres:
    """Return a server on `folder`: the one that runs (a command beside `bacmr serve`), else a new one of ours."""
    server = EmbeddedPostgres(folder)
    ends_at = time.monotonic() + timeout_seconds
    while True:
        try:
            return server.start(timeout_seconds)
        except AlreadyServed:
            if server.attach():
                return server
            if time.monotonic() > ends_at:
                raise
        time.sleep(WATCH_SECONDS)


def _answers(connection: Connection) -> bool:
    try:
        psycopg.connect(connection.owner_url("postgres"), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _provision(connection: Connection) -> None:
    """Make the server's login and database; both may be there from an earlier, interrupted start."""
    with psycopg.connect(connection.owner_url("postgres"), autocommit=True) as session:
        if not session.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [SERVER]).fetchone():
            login = sql.SQL("CREATE ROLE {} LOGIN NOINHERIT PASSWORD {}")
            session.execute(login.format(sql.Identifier(SERVER), sql.Literal(connection.server_password)))
        if not session.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _write_private(path: Path, content: dict[str, object] | dict[str, str] | str) -> None:
    """Write a file that only we may read, so that nobody ever sees half of it."""
    text = content if isinstance(content, str) else json.dumps(content)
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
