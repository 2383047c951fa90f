"""The child process that serves one Milvus Lite folder on a unix socket; started by `lite.py`, never imported.

Milvus Lite's own command would do, were it not for four faults that only its process can mend: writers that run side by
side lose rows silently (so calls run one at a time), a crash leaves rows twice until a flush and index files that no
longer load (so both are healed before the socket opens), a killed parent leaves it running (so it asks the kernel for a
signal), and its port has no authentication (so it listens on a socket inside a private folder).
"""

import argparse
import ctypes
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import grpc
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import MilvusLite
from milvus_lite.exceptions import DataDirLockedError
from pymilvus.grpc_gen import milvus_pb2_grpc

_PR_SET_PDEATHSIG = 1
_MESSAGE_BYTES = 256 * 1024 * 1024
_DRAIN_SECONDS = 5.0
_LOCK_RETRY_SECONDS = 0.1


def die_with_parent(parent_pid: int) -> None:
    """Ask for SIGINT when the thread that started this process ends; leave at once if it has ended already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit(0)


def open_folder(folder: Path, wait_seconds: float) -> MilvusLite:
    """Open the data folder, waiting for a predecessor that is still closing it. Raises DataDirLockedError."""
    end = time.monotonic() + wait_seconds
    while True:
        try:
            return MilvusLite(str(folder))
        except DataDirLockedError:
            if time.monotonic() > end:
                raise
            time.sleep(_LOCK_RETRY_SECONDS)


def heal(database: MilvusLite, folder: Path) -> None:
    """Bring every collection to the loaded state without the leftovers of a crash."""
    for name in database.list_collections():
        collection = database.get_collection(name)
        try:
            collection.load()
        except Exception as error:  # noqa: BLE001 - a cut index file surfaces as whatever numpy or FAISS raises
            print(f"rebuilding the index files of {name}: {error!r}", file=sys.stderr, flush=True)  # noqa: T201
            for sidecar in (folder / "collections" / name).glob("partitions/*/indexes/*idx"):
                sidecar.unlink(missing_ok=True)
            collection.load()
        collection.flush()


def serve(database: MilvusLite, address: str) -> grpc.Server:
    """Serve the database, one call at a time: Lite is not safe for writers that run side by side."""
    server = grpc.server(
        ThreadPoolExecutor(max_workers=1),
        options=[
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
        ],
    )
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(MilvusServicer(database), server)
    server.add_insecure_port(address)
    server.start()
    return server


def main() -> int:
    """Serve until SIGINT or SIGTERM, then close the folder cleanly.

    Writes a line to standard output once the socket answers. Returns the exit code: EX_TEMPFAIL when another process
    holds the folder.
    """
    parser = argparse.ArgumentParser(description="Serve one Milvus Lite folder.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--lock-wait-seconds", type=float, default=10.0)
    options = parser.parse_args()

    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    die_with_parent(options.parent)
    try:
        database = open_folder(options.folder, options.lock_wait_seconds)
    except DataDirLockedError as error:
        print(error, file=sys.stderr)  # noqa: T201 - standard error is this process's log file
        return os.EX_TEMPFAIL
    try:
        heal(database, options.folder)
        options.socket.unlink(missing_ok=True)  # holding the folder's lock: whoever left it is gone
        server = serve(database, f"unix:{options.socket}")
        print("ready", flush=True)  # noqa: T201 - the launcher waits for this line
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody reads the pipe from here on
        stopping.wait()
        server.stop(grace=_DRAIN_SECONDS).wait()
    finally:
        database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
