"""`bacmr serve` and `bacmr worker`: run until told to stop, then drain."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.console import Console

from server.app.application import App
from server.app.child import READY
from server.app.processes import Processes
from server.config import Settings

console = Console(stderr=True, highlight=False)


async def serve(settings: Settings) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP; a signal during start-up stops what had started.

    With several processes SIGHUP replaces them one at a time instead.
    """
    if settings.processes == 1:
        app = App(settings)
        await _until_stopped(_signals(), app.start, app.stop, lambda: _say(app.greeting()))
        return
    processes = Processes(settings)
    stop = _signals(renew=processes.renew)
    await _until_stopped(stop, processes.start, processes.stop, lambda: _say(processes.greeting()))


async def serve_beside(settings: Settings, metrics_dir: Path, line: socket.socket) -> None:
    """Serve as one of several processes, until a signal or until the parent's end of `line` closes."""
    app, stop = App(settings, metrics_dir), _signals()
    listening = asyncio.create_task(_parent_gone(line, stop), name="parent")
    try:
        await _until_stopped(stop, app.start, app.stop, lambda: line.send(READY), lambda: None)
    finally:
        listening.cancel()


async def work(settings: Settings) -> None:
    """Run jobs until SIGINT, SIGTERM or SIGHUP."""
    app = App(settings)
    await _until_stopped(_signals(), app.start_worker, app.stop, lambda: _say(app.greeting()))


def _signals(renew: Callable[[], None] | None = None) -> asyncio.Event:
    """Return what signals set; `renew` hears of SIGHUP in its place."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    loop.add_signal_handler(signal.SIGHUP, renew or stop.set)
    return stop


async def _parent_gone(line: socket.socket, stop: asyncio.Event) -> None:
    with contextlib.suppress(ConnectionError):
        await asyncio.get_running_loop().sock_recv(line, 1)
    stop.set()


async def _until_stopped(
    stop: asyncio.Event,
    start: Callable[[], Awaitable[None]],
    end: Callable[[], Awaitable[None]],
    started: Callable[[], object],
    stopping: Callable[[], object] = lambda: _say("stopping …"),
) -> None:
    starting = asyncio.ensure_future(start())
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await starting
            started()
            await stop.wait()
            stopping()
    finally:
        stopped.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        await end()


def _say(line: str) -> None:
    console.print(line, soft_wrap=True)
