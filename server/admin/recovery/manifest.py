"""`manifest.json`: what an export holds, and how to prove that it still does. It is written last."""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from server.admin.recovery.archive import ALGORITHM, Keys
from server.admin.recovery.tables import EXPORTED
from server.refusal import ExportInvalid

NAME = "manifest.json"
FORMAT = 1
FILES = "files"
"""Stands among the tables for the list of uploaded files."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table and the file that holds it; size and hash are those of the file as it is stored."""

    name: str
    file: str
    rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """The books at the snapshot: one hash over the heads of all chains, as `bacmr reconcile` shows it, and the net of
    every account."""

    head: str
    accounts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Encryption:
    """How the files are encrypted; the key is not here."""

    algorithm: str
    salt: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """An export. `snapshot_at` is the moment whose state it holds, `copies_files` says whether uploads are in it.

    `missing_files` are keys of uploads whose bytes the blob store no longer had.
    """

    id: UUID
    format: int
    server_version: str
    schema_revision: str
    snapshot_at: datetime
    created_at: datetime
    ledger: Ledger
    compressed: bool
    copies_files: bool
    encryption: Encryption | None
    tables: Sequence[TableFile]
    missing_files: Sequence[str]
    left_out: Mapping[str, str]

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)

    def table(self, name: str) -> TableFile:
        """Return where a table is."""
        return next(table for table in self.tables if table.name == name)

    def written(self, keys: Keys | None) -> bytes:
        """Return the file's content: the manifest with its hash, and signed where the export is encrypted."""
        body = to_jsonable_python(asdict(self))
        proof = {"sha256": hashlib.sha256(_canonical(body)).hexdigest()}
        if keys is not None:
            proof["signature"] = keys.sign(_canonical(body))
        return (json.dumps(body | {"proof": proof}, indent=2) + "\n").encode()


def read(content: bytes, secret: str) -> tuple[Manifest, Keys | None]:
    """Return a manifest that is proven whole, with the keys of its export. Raises ExportInvalid.

    Takes 0.1 s when the export is encrypted.
    """
    body, proof = _parts(content)
    if not hmac.compare_digest(hashlib.sha256(_canonical(body)).hexdigest(), str(proof.get("sha256"))):
        raise ExportInvalid("The manifest of the export was changed.")
    if body.get("format") != FORMAT:
        raise ExportInvalid("The export was written in a format that this version does not know.")
    try:
        manifest = TypeAdapter(Manifest).validate_python(body)
    except ValidationError:
        raise ExportInvalid("The manifest of the export lacks something.") from None
    if [table.name for table in manifest.tables] != [*EXPORTED, FILES]:
        raise ExportInvalid("The export holds other tables than this version knows.")
    return manifest, _proven_keys(manifest, body, proof, secret)


def _proven_keys(
    manifest: Manifest, body: Mapping[str, object], proof: Mapping[str, object], secret: str
) -> Keys | None:
    if manifest.encryption is None:
        return None
    if manifest.encryption.algorithm != ALGORITHM:
        raise ExportInvalid("The export is encrypted in a way that this version does not know.")
    if not secret:
        raise ExportInvalid("The export is encrypted; set BACMR_EXPORT_KEY to the key that it was made with.")
    keys = Keys(secret, bytes.fromhex(manifest.encryption.salt))
    if not hmac.compare_digest(keys.sign(_canonical(body)), str(proof.get("signature"))):
        raise ExportInvalid("The export was made with another key than BACMR_EXPORT_KEY.")
    return keys


def _parts(content: bytes) -> tuple[dict[str, object], dict[str, object]]:
    try:
        body = json.loads(content)
        proof = body.pop("proof")
        return dict(body), dict(proof)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ExportInvalid("The manifest of the export cannot be read.") from None


def _canonical(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
