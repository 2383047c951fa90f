"""Several server processes on the same two ports, and the parent that starts, replaces and ends them.

The kernel shares new connections out among them (SO_REUSEPORT). Stores that no setting replaces belong to the parent
and outlive each process; the processes connect to them. A process that loses its parent drains and ends.
"""

import asyncio
import contextlib
import itertools
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from server.app.child import Child
from server.app.edge import Listens
from server.app.failure import StartupError
from server.app.startup import clearly
from server.app.stores import keep_embedded
from server.config import Settings
from server.database.cancellation import cancelled
from server.telemetry import logs
from server.telemetry.metrics import export

PAUSES_SECONDS = (0.0, 1.0, 5.0, 15.0)
"""Before each start after an end that nobody asked for; the last one repeats."""
STEADY_SECONDS = 60.0
"""Time without such an end after which the pauses begin anew."""
DRAINS = 4
"""Jobs, calls, answers and the HTTP port each get the drain time, one after the other."""
SPARE_SECONDS = 10.0

log = structlog.get_logger(__name__)


class Processes:
    """The parent of `settings.processes` servers: `start`, `renew` for a rolling restart, `stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._children: list[Child] = []
        self._arguments: Sequence[str] = ()
        self._metrics_dir = Path()
        self._grace_seconds = DRAINS * settings.drain_seconds + SPARE_SECONDS
        self._watching: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._renewing = False
        self._pauses = Pauses()
        self._listens: Listens | None = None

    def greeting(self) -> str:
        """Return one line for whoever started the servers."""
        assert self._listens is not None
        where = f"gRPC on {self._listens.grpc} and HTTP on {self._listens.http}"
        return f"BacMR serves {where} with {len(self._children)} processes."

    async def start(self) -> None:
        """Start the stores and all processes. Raises StartupError; call `stop` then as well."""
        logs.configure(self._settings.log_level)
        with clearly():
            listens = self._listens = Listens(self._settings)
        for listen in (listens.grpc, listens.http):
            self._stack.enter_context(_kept(listen))
        await keep_embedded(self._settings, self._stack)
        self._metrics_dir = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bacmr-metrics-")))
        self._arguments = ("--grpc", listens.grpc, "--http", listens.http, "--metrics", str(self._metrics_dir))
        self._stack.push_async_callback(self._end_all)
        # The first one makes what a new installation lacks: keys, the secret, the index, the administrator.
        await self._start_one()
        await asyncio.gather(*(self._start_one() for _ in range(1, self._settings.processes)))
        keeping = asyncio.create_task(self._keep_up(), name="processes")
        self._stack.push_async_callback(cancelled, keeping)

    def renew(self) -> None:
        """Replace every process by a new one, one at a time: the new one is ready before the old one drains."""
        self._renewing = True
        self._woken.set()

    async def stop(self) -> None:
        """Drain and end all processes, then the stores."""
        await self._stack.aclose()

    async def _start_one(self) -> None:
        seat = self._free_seat()
        child = Child.spawn(seat, self._arguments)
        self._children.append(child)
        try:
            await child.ready()
        except BaseException:
            self._forget(child)
            raise
        log.info("process_started", pid=child.pid, seat=seat)
        self._watch(child)

    def _free_seat(self) -> int:
        taken = {child.seat for child in self._children}
        return next(seat for seat in itertools.count() if seat not in taken)

    def _forget(self, child: Child) -> None:
        self._children.remove(child)
        export.process_ended(child.seat, self._metrics_dir)

    def _watch(self, child: Child) -> None:
        watching = asyncio.create_task(child.ended(), name=f"process-{child.pid}")
        watching.add_done_callback(lambda _: self._woken.set())
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)

    async def _keep_up(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            await self._fill_up()
            if self._renewing:
                self._renewing = False
                await self._renew_all()

    async def _fill_up(self) -> None:
        """Start a process for each one that ended without having been told to."""
        for child in [child for child in self._children if child.exit_code is not None]:
            log.error("process_ended", pid=child.pid, code=child.exit_code)
            self._forget(child)
        while len(self._children) < self._settings.processes:
            await asyncio.sleep(self._pauses.next(asyncio.get_running_loop().time()))
            try:
                await self._start_one()
            except StartupError as error:
                log.error("process_not_started", reason=str(error))

    async def _renew_all(self) -> None:
        log.info("renewing", processes=len(self._children))
        for old in tuple(self._children):
            if old.exit_code is not None:
                continue
            try:
                await self._start_one()
            except StartupError as error:
                log.error("renewing_stopped", reason=str(error))
                return
            await old.end(self._grace_seconds)
            self._forget(old)
            log.info("process_replaced", pid=old.pid, code=old.exit_code)
            await self._fill_up()
        log.info("renewed", processes=len(self._children))

    async def _end_all(self) -> None:
        await asyncio.gather(*(child.end(self._grace_seconds) for child in self._children))


class Pauses:
    """How long to wait before a start: longer each time, unless all went well for a while."""

    def __init__(self) -> None:
        self._starts = 0
        self._last_at = float("-inf")

    def next(self, now: float) -> float:
        """Return the seconds to wait; `now` is a clock that never goes back."""
        if now - self._last_at > STEADY_SECONDS:
            self._starts = 0
        pause = PAUSES_SECONDS[min(self._starts, len(PAUSES_SECONDS) - 1)]
        self._starts += 1
        self._last_at = now
        return pause


@contextlib.contextmanager
def _kept(listen: str) -> Iterator[None]:
    """Keep an address for our processes while none of them listens, without ever listening ourselves."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        place.bind((host, int(port)))
        yield
