"""From which network address a call comes: the peer's, or what a trusted proxy says. Pure.

`x-forwarded-for` is written by anyone; only the entries that our own proxies appended count, read from the right.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import unquote

Network = IPv4Network | IPv6Network
LOOPBACK: Final[tuple[Network, ...]] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
SUBSCRIBER_BITS_V6: Final = 64
"""One subscriber has a whole IPv6 network of this size, and as many addresses in it as they like."""
LOCAL: Final = "127.0.0.1"
"""Address of callers on a Unix socket."""
_PRIVATE_SOCKET: Final = "unix:"


def caller_address(peer: str, forwarded_for: str, proxies: Sequence[Network] = LOOPBACK) -> str:
    """Return the caller's IP address.

    `peer` is gRPC's, as in `ipv4:127.0.0.1:5000`, `ipv6:%5B::1%5D:5000` or `unix:`; `forwarded_for` the header's value
    or empty; `proxies` the networks that are believed. The private socket's peer is our own HTTP port, whatever
    `proxies` says: the last entry is the address it saw.
    """
    if not forwarded_for:
        return peer_address(peer)
    if peer.startswith(_PRIVATE_SOCKET):
        forwarded_for, _, seen = forwarded_for.rpartition(",")
        found = _parsed(seen.strip())
        return forwarded_address(str(found), forwarded_for, proxies) if found else LOCAL
    return forwarded_address(peer_address(peer), forwarded_for, proxies)


def forwarded_address(address: str, forwarded_for: str, proxies: Sequence[Network] = LOOPBACK) -> str:
    """Return the address that `address`, if it is a proxy of ours, says it passes a request on for."""
    for hop in reversed(forwarded_for.split(",")):
        if not _trusted(address, proxies):
            return address
        found = _parsed(hop.strip())
        if found is None:
            return address
        address = str(found)
    return address


@lru_cache(maxsize=4096)
def peer_address(peer: str) -> str:
    """Return the IP address in gRPC's name of a peer; a Unix socket's peer is local."""
    kind, _, rest = peer.partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return LOCAL
    host = unquote(rest).rpartition(":")[0].strip("[]").partition("%")[0]
    found = _parsed(host)
    return str(found) if found else LOCAL


def subscriber(address: str) -> str:
    """Return what one subscriber is limited by: an IPv4 address, or an IPv6 network."""
    if ":" not in address:
        return address
    return str(ip_network(f"{address}/{SUBSCRIBER_BITS_V6}", strict=False))


def _trusted(address: str, proxies: Sequence[Network]) -> bool:
    found = _parsed(address)
    return found is not None and any(found in network for network in proxies)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
