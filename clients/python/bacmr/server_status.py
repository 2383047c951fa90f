"""What a server said of a call that sends a stream, also when it said it before it had read all."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

WAIT_SECONDS = 1.0
"""How long a status may come after a write that it made fail; it is on its way, or the link is gone."""


class ServerStatus:
    """The error that a server ended a call with. Make it with the call, before the loop runs again.

    A server that refuses early closes the stream under a write, and grpc.aio puts the failure of that write, its own
    INTERNAL, in the place of the status, whichever comes first (grpc/grpc#36066). It tells of each as it comes.
    """

    def __init__(self, call: grpc.aio.Call) -> None:
        """Listen for the end of `call`."""
        self._error: asyncio.Future[grpc.aio.AioRpcError] = asyncio.get_running_loop().create_future()
        call.add_done_callback(self._hear)

    async def error(self, raised: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """Return how the server ended the call that raised `raised`, or `raised` when nothing better is known."""
        if _write_failed(raised):
            await asyncio.wait([self._error], timeout=WAIT_SECONDS)
        return self._error.result() if self._error.done() else raised

    def _hear(self, call: Any) -> None:
        try:
            _error_of(call).send(None)
        except StopIteration as heard:
            if not _write_failed(heard.value) and not self._error.done():
                self._error.set_result(heard.value)


def _write_failed(error: grpc.aio.AioRpcError) -> bool:
    # A status of our servers comes with trailers.
    return error.code() is grpc.StatusCode.INTERNAL and not error.trailing_metadata()


async def _error_of(call: grpc.aio.Call) -> grpc.aio.AioRpcError:
    """Return how a call has ended. Of one that has, there is nothing to wait for."""
    return grpc.aio.AioRpcError(
        await call.code(),
        await call.initial_metadata(),
        await call.trailing_metadata(),
        await call.details(),
    )
