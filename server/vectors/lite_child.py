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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import grpc
import numpy as np
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import MilvusLite
from milvus_lite.exceptions import DataDirLockedError
from milvus_lite.search.bitmap import build_valid_mask
from pymilvus.grpc_gen import milvus_pb2_grpc

from server.vectors.lite_rows import (
    BLOCK_ROWS,
    FIELDS,
    MESSAGE_BYTES,
    ROWS_METHOD,
    RowBlock,
    WriteCounter,
    packed,
)

_PR_SET_PDEATHSIG = 1
_DRAIN_SECONDS = 5.0
_LOCK_RETRY_SECONDS = 0.1


_WRITES = {"Insert", "Upsert", "Delete", "DropCollection", "TruncateCollection", "DropPartition"}


class CountWrites(grpc.ServerInterceptor):
    """Counts each write of a collection once it is done, well or not."""

    def __init__(self, database: MilvusLite, counter: WriteCounter) -> None:
        self._database = database
        self._counter = counter

    def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Wrap the calls that write."""
        handler = continuation(handler_call_details)
        name = handler_call_details.method.rpartition("/")[2]
        if handler is None or handler.unary_unary is None or name not in _WRITES:
            return handler
        write = handler.unary_unary

        def call(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                return write(request, context)
            finally:
                self._counter.add(self._database.resolve_collection_name(request.collection_name))

        return grpc.unary_unary_rpc_method_handler(call, handler.request_deserializer, handler.response_serializer)


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


def rows(database: MilvusLite, index: str) -> Iterator[bytes]:
    """Yield all rows of a collection as packed blocks; its memory is written to segments first."""
    collection = database.get_collection(index)
    collection.flush()
    # Inner parts of Milvus Lite, because no call of it returns vectors as arrays; a test compares both.
    segments, deleted = collection._read_snapshot()
    segments = [segment for segment in segments if segment.num_rows]
    if not segments:
        return
    ids = [one for segment in segments for one in segment.pks]
    numbers = np.concatenate([segment.seqs for segment in segments])
    alive = build_valid_mask(ids, numbers, deleted, memtable=collection._memtable)
    start = 0
    for segment in segments:
        chosen = np.flatnonzero(alive[start : start + segment.num_rows])
        start += segment.num_rows
        vectors = segment.vector_data("vector")[0]
        for first in range(0, len(chosen), BLOCK_ROWS):
            places = chosen[first : first + BLOCK_ROWS]
            table = segment.table.take(places)
            fields = {name: table.column(name).to_pylist() for name in FIELDS}
            yield packed(RowBlock(table.column("id").to_pylist(), vectors[places], fields))


def serve(database: MilvusLite, address: str, counter: WriteCounter) -> grpc.Server:
    """Serve the database, one call at a time: Lite is not safe for writers that run side by side."""
    server = grpc.server(
        ThreadPoolExecutor(max_workers=1),
        interceptors=[CountWrites(database, counter)],
        options=[
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.max_send_message_length", MESSAGE_BYTES),
            # The client pings every few seconds; a busy machine must not take that for an attack and hang up.
            ("grpc.http2.max_ping_strikes", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ],
    )
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(MilvusServicer(database), server)
    _, service, method = ROWS_METHOD.split("/")
    reading: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(
        lambda request, _: rows(database, request.decode())
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: reading})])
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
    parser.add_argument("--counter", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--lock-wait-seconds", type=float, required=True)
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
        server = serve(database, f"unix:{options.socket}", WriteCounter(options.counter))
        print("ready", flush=True)  # noqa: T201 - the launcher waits for this line
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody reads the pipe from here on
        stopping.wait()
        server.stop(grace=_DRAIN_SECONDS).wait()
    finally:
        database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
