"""No fetch reaches a private address, whatever it is called: every vector of `reference/edges.md`."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest
import pytest_asyncio

from server.ingestion.sources.fetching import AddressPolicy, Fetcher, FetchFailed, guarded_client
from server.ingestion.sources.reach import Reach
from server.refusal import SourceRefused

SECRET = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecret"
ANY_HOST = [
    "127.0.0.1", "2130706433", "0x7f000001", "017700000001", "127.1", "0.0.0.0", "localhost", "10.0.0.1",
    "192.168.1.1", "172.16.0.1", "100.64.0.1", "169.254.169.254", "metadata.google.internal", "224.0.0.1",
    "internal.example", "rebinding.example", "mixed.example", "nat64.example", "sixtofour.example", "mapped.example",
    "public.example", "teredo.example", "compatible.example", "unique.example", "linklocal.example",
]  # fmt: skip
NAMES = {
    "localhost": ["127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "internal.example": ["127.0.0.1"],
    "mixed.example": ["93.184.216.34", "127.0.0.1"],
    "nat64.example": ["64:ff9b::7f00:1"],
    "sixtofour.example": ["2002:7f00:1::"],
    "teredo.example": ["2001::1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "compatible.example": ["::127.0.0.1"],
    "unique.example": ["fd00::1"],
    "linklocal.example": ["fe80::1"],
}


class Listener:
    """A server on loopback that counts who reaches it."""

    def __init__(self) -> None:
        self.reached = 0
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reached += 1
        writer.write(SECRET)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest_asyncio.fixture
async def listener() -> AsyncIterator[Listener]:
    listening = Listener()
    server = await asyncio.start_server(listening.answer, "127.0.0.1", 0)
    listening.port = server.sockets[0].getsockname()[1]
    yield listening
    server.close()
    await server.wait_closed()


def resolver(names: dict[str, list[str]]) -> Callable[..., Iterable[Any]]:
    """A resolver that knows some names and leaves literals to the platform."""

    def resolve(host: str, port: int, *values: Any, **named: Any) -> list[Any]:
        if host not in names:
            return list(socket.getaddrinfo(host, port, *values, **named))
        rows = []
        for address in names[host]:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            where = (address, port, 0, 0) if ":" in address else (address, port)
            rows.append((family, socket.SOCK_STREAM, 6, "", where))
        return rows

    return resolve


async def fetched(address: str, port: int, names: dict[str, list[str]] | None = None) -> None:
    """Fetch with the guard of production; only the port of the listener is allowed beside its own."""
    policy = AddressPolicy(allowed_ports=frozenset({80, 443, port}))
    async with guarded_client(policy, resolver(NAMES if names is None else names)) as client:
        await Fetcher(client, ANY_HOST, 10_000).fetch(address)


@pytest.mark.parametrize("host", [host for host in ANY_HOST if host not in ("public.example", "rebinding.example")])
async def test_no_spelling_of_a_private_address_is_reached(listener: Listener, host: str) -> None:
    with pytest.raises((SourceRefused, FetchFailed)):
        await fetched(f"http://{host}:{listener.port}/", listener.port)
    assert listener.reached == 0


@pytest.mark.parametrize("host", ["[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[fd00::1]", "①②⑦.0.0.1"])
async def test_no_literal_that_hides_a_private_address_is_reached(listener: Listener, host: str) -> None:
    with pytest.raises((SourceRefused, FetchFailed)):
        await fetched(f"http://{host}:{listener.port}/", listener.port)
    assert listener.reached == 0


async def test_a_name_that_changes_its_address_is_not_followed(listener: Listener) -> None:
    answers = iter([["93.184.216.34"], ["127.0.0.1"], ["127.0.0.1"]])

    class Rebinding(dict[str, list[str]]):
        def __contains__(self, host: object) -> bool:
            return host == "rebinding.example"

        def __getitem__(self, host: str) -> list[str]:
            return next(answers)

    with pytest.raises((SourceRefused, FetchFailed, TimeoutError)):
        async with asyncio.timeout(2):
            await fetched(f"http://rebinding.example:{listener.port}/", listener.port, Rebinding())
    assert listener.reached == 0


async def test_other_ports_are_refused(listener: Listener) -> None:
    policy = AddressPolicy(allowed_networks=("127.0.0.1/32",))
    async with guarded_client(policy) as client:
        with pytest.raises(SourceRefused):
            await Fetcher(client, ANY_HOST, 10_000).fetch(f"http://127.0.0.1:{listener.port}/")
    assert listener.reached == 0


async def test_the_listener_answers_where_it_is_allowed(listener: Listener) -> None:
    """The control: what the tests above do not reach is there."""
    policy = AddressPolicy(allowed_networks=("127.0.0.1/32",), allowed_ports=frozenset({listener.port}))
    async with guarded_client(policy) as client:
        page = await Fetcher(client, ANY_HOST, 10_000).fetch(f"http://127.0.0.1:{listener.port}/")
    assert page.body == b"secret"


@pytest.mark.parametrize("other", ["http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://169.254.169.254/"])
async def test_an_allowed_place_of_the_intranet_opens_no_other(listener: Listener, other: str) -> None:
    async def redirecting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 302 Found\r\nlocation: {other.format(port=listener.port)}\r\ncontent-length: 0\r\n"
        writer.write(f"{head}connection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    allowed = await asyncio.start_server(redirecting, "127.0.0.1", 0)
    place = f"127.0.0.1:{allowed.sockets[0].getsockname()[1]}"
    hosts, policy = Reach([place]).of(f"http://{place}/")
    async with allowed, guarded_client(policy) as client:
        with pytest.raises(SourceRefused):
            await Fetcher(client, hosts, 10_000).fetch(f"http://{place}/")
    assert listener.reached == 0
