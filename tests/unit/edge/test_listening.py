"""Closing a port cuts nobody off: neither who is connected nor who waits to be."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from server.edge import listening


@pytest.fixture
def port() -> Iterator[socket.socket]:
    """A socket that listens, on which nobody accepts but the test."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened


def number(port: socket.socket) -> int:
    return int(port.getsockname()[1])


async def test_who_waits_to_be_accepted_is_accepted_before_a_port_closes(port: socket.socket) -> None:
    address = port.getsockname()
    with socket.create_connection(address) as caller:
        closing = asyncio.create_task(listening.close(number(port), 60.0))
        await asyncio.sleep(0)
        assert not closing.done()
        accepted, _ = port.accept()
        await closing
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        with accepted:
            caller.sendall(b"a call")
            assert accepted.recv(16) == b"a call"


async def test_a_port_closes_in_time_whoever_waits(port: socket.socket) -> None:
    address = port.getsockname()
    with socket.create_connection(address):
        await listening.close(number(port), 0.0)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)


async def test_other_ports_and_connections_stay_open(port: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_connection(port.getsockname()) as caller:
        accepted, _ = port.accept()
        with accepted:
            await listening.close(number(port), 1.0)
            caller.sendall(b"a call")
            assert accepted.recv(16) == b"a call"
        socket.create_connection(other.getsockname()).close()


async def test_the_place_of_what_listened_is_kept_for_who_opened_it(port: socket.socket) -> None:
    held = port.fileno()
    await listening.close(number(port), 1.0)
    with socket.create_server(("127.0.0.1", 0)) as later:
        assert later.fileno() != held
    port.close()
