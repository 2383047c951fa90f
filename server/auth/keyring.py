"""Our signing keys: files that any number of processes share, rotated without signing anyone out.

A folder holds one private P-256 key per `<kid>.pem`. The file whose name sorts last signs. A key that was followed by
a newer one still verifies until the last token it can have signed has expired; then it is ignored. Taking a file away
ends its key. To rotate, add a file (`Keyring.rotate`, or any tool); running processes see it within RELOAD_SECONDS.
"""

import os
import secrets
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from server.auth.tokens import public_jwk

RELOAD_SECONDS = 30.0
"""How long a process may go on signing with a key that another one replaced."""
UNKNOWN_KEY_SECONDS = 2.0
"""Tokens with a key id that we do not know make us look at the folder no more often than this."""
KEY_FILE_LENGTH_MAX = 16 * 1024

_log = structlog.get_logger(__name__)


class KeyringError(Exception):
    """The key folder cannot be used; the message is one line that names the file."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key; `verifies_until` is Unix seconds, or None for the one that signs now."""

    key_id: str
    private: ec.EllipticCurvePrivateKey
    public: ec.EllipticCurvePublicKey
    verifies_until: float | None


class Keyring:
    """The keys of one folder, newest last."""

    def __init__(self, folder: Path, token_ttl_seconds: float, clock: Callable[[], float] = time.time) -> None:
        """Take the folder, the longest life of a token, and a clock in Unix seconds."""
        self._folder = folder
        self._overlap_seconds = token_ttl_seconds + RELOAD_SECONDS
        self._clock = clock
        self._keys: dict[str, SigningKey] = {}
        self._loaded_at = 0.0

    def open(self) -> None:
        """Load the keys, making the first one (0600, in a 0700 folder) when there is none. Raises KeyringError."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not any(self._folder.glob("*.pem")):
                # Told, since in a folder that was named wrongly it signs everybody out.
                _log.info("signing_key_added", key_id=self._add_file(), folder=str(self._folder))
        except OSError as error:
            raise KeyringError(f"signing keys in {self._folder}: {error.strerror}") from error
        self._load()

    def signing_key(self) -> SigningKey:
        """Return the key that signs now."""
        self._reload_after(RELOAD_SECONDS)
        return next(reversed(self._keys.values()))

    def key(self, key_id: str) -> SigningKey | None:
        """Return the key with this id if it may still verify. The id is only looked up, never part of a path."""
        self._reload_after(UNKNOWN_KEY_SECONDS if key_id not in self._keys else RELOAD_SECONDS)
        found = self._keys.get(key_id)
        if found is None or (found.verifies_until is not None and found.verifies_until <= self._clock()):
            return None
        return found

    def jwks(self) -> list[dict[str, str]]:
        """Return the public keys that verify tokens now (RFC 7517), the signing one first."""
        self._reload_after(RELOAD_SECONDS)
        valid = [key for key_id in reversed(self._keys) if (key := self.key(key_id))]
        return [public_jwk(key.public, key.key_id) for key in valid]

    def signing_keys(self) -> list[SigningKey]:
        """Return every key in the folder, the signing one last. Raises KeyringError when there is none."""
        self._load()
        return list(self._keys.values())

    def rotate(self) -> str:
        """Add a key that signs from now on, and return its id. Tokens of the old keys stay valid until they expire.

        Raises KeyringError in a folder whose names sort after ours: there, its operator adds the next one.
        """
        self._load()
        newest = next(reversed(self._keys))
        if newest > self._next_key_id():
            raise KeyringError(f"signing keys in {self._folder}: a new key would sort before {newest}; add it by hand")
        try:
            key_id = self._add_file()
        except OSError as error:
            raise KeyringError(f"signing keys in {self._folder}: {error.strerror}") from error
        self._load()
        _log.info("signing_key_added", key_id=key_id)
        return key_id

    def _reload_after(self, seconds: float) -> None:
        if self._clock() - self._loaded_at < seconds:
            return
        try:
            self._load()
        except KeyringError as error:
            # Half-way through a change of the folder; the keys we hold go on working.
            self._loaded_at = self._clock()
            _log.warning("signing_keys_not_reloaded", problem=str(error))

    def _load(self) -> None:
        files = sorted(self._folder.glob("*.pem"))
        if not files:
            raise KeyringError(f"signing keys in {self._folder}: no *.pem file")
        try:
            made_at = [file.stat().st_mtime for file in files]
            replaced_at = [*(at + self._overlap_seconds for at in made_at[1:]), None]
            private = [_private_key(file) for file in files]
        except OSError as error:
            raise KeyringError(f"signing key {error.filename}: {error.strerror}") from error
        self._keys = {
            file.stem: SigningKey(file.stem, key, key.public_key(), until)
            for file, key, until in zip(files, private, replaced_at, strict=True)
        }
        self._loaded_at = self._clock()

    def _next_key_id(self) -> str:
        return f"{datetime.fromtimestamp(self._clock(), UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"

    def _add_file(self) -> str:
        now, key_id = self._clock(), self._next_key_id()
        pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # Written beside and renamed: another process must never read half a key.
        unfinished = self._folder / f".{key_id}.new"
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        os.utime(unfinished, (now, now))
        if os.geteuid() == 0:
            # An operator's key must be one that the server, perhaps another user, can read.
            owner = self._folder.stat()
            os.chown(unfinished, owner.st_uid, owner.st_gid)
        unfinished.rename(self._folder / f"{key_id}.pem")
        return key_id


def _private_key(file: Path) -> ec.EllipticCurvePrivateKey:
    if file.stat().st_size > KEY_FILE_LENGTH_MAX:
        raise KeyringError(f"signing key {file}: too large")
    if file.stat().st_mode & stat.S_IROTH:
        _log.warning("signing_key_readable_by_everyone", file=str(file))
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise KeyringError(f"signing key {file}: not a PEM private key without password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyringError(f"signing key {file}: not a P-256 key")
    return key
