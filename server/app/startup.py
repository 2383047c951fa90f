"""Starting and stopping: what can be wrong as one line that says what to do."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.app.failure import StartupError
from server.auth.keyring import KeyringError
from server.blobs.objects import BadBlobUrl
from server.database.backup import BackupError
from server.database.embedded import EmbeddedError
from server.database.migrate import MissingRight
from server.edge.policy import EdgeError
from server.refusal import Refusal, StoreUnavailable
from server.vectors.lite import StartFailed

OWNER_ONLY = 0o700
PASSABLE = 0o711
"""As root the embedded PostgreSQL runs as another user, who must pass through the data folder to its own part."""
COLLECT_AFTER = 20_000
"""Net new objects before the young ones are looked through; Python's 700 is made for small programs."""
SWITCH_SECONDS = 0.0005
"""What a thread that computes may keep others waiting; at Python's 0.005 a student waits three times as long for an
answer's first text while a textbook is ingested."""


@contextmanager
def clearly() -> Iterator[None]:
    """Turn what parts raise while they start into a StartupError."""
    try:
        yield
    except (EmbeddedError, StartFailed, EdgeError, KeyringError, BackupError, MissingRight) as error:
        raise StartupError(str(error)) from error
    except BadBlobUrl as error:
        raise StartupError(f"BACMR_BLOB_URL: {error}") from error
    except StoreUnavailable as error:
        store = error.metadata.get("store", "a store")
        raise StartupError(f"{store} does not answer; check its address and that it runs.") from error
    except Refusal as error:
        raise StartupError(str(error)) from error


def data_folder(folder: Path) -> Path:
    """Return the data folder, made when missing; raises StartupError when it cannot be written."""
    mode = PASSABLE if os.geteuid() == 0 else OWNER_ONLY
    try:
        if not folder.exists():
            folder.mkdir(mode=mode, parents=True)
            folder.chmod(mode)
        elif os.geteuid() == 0:
            folder.chmod(folder.stat().st_mode | PASSABLE)
    except OSError as error:
        reason = error.strerror
        raise StartupError(f"BACMR_DATA_DIR: {folder} cannot be used ({reason}); choose a folder of yours.") from error
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise StartupError(f"BACMR_DATA_DIR: {folder} is not writable; choose a folder of yours.")
    return folder


def tune_interpreter() -> None:
    """Keep garbage collection and threads that compute from holding up the event loop.

    What was loaded so far lives as long as the process, and each full collection would go through all of it.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
