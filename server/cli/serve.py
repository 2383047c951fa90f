"""`bacmr serve` and `bacmr worker`: run until told to stop, then drain."""

import asyncio
import signal

from rich.console import Console

from server.app import App
from server.config import Settings

console = Console(stderr=True, highlight=False)


async def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; a signal during start-up stops what had started."""
    await _until_stopped(App(settings), serving=True)


async def work(settings: Settings) -> None:
    """Run jobs until SIGINT or SIGTERM."""
    await _until_stopped(App(settings), serving=False)


async def _until_stopped(app: App, *, serving: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    starting = asyncio.create_task(app.start() if serving else app.start_worker())
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await starting
            console.print(app.greeting())
            await stop.wait()
            console.print("stopping …")
    finally:
        stopped.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        await app.stop()
