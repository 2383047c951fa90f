"""Which addresses sources may be fetched from: named hosts at public addresses, and a school's own by host and port.

Nothing is allowed unless an operator names it, and a private address is only ever reached under the very host and port
that was named for it: a public site cannot lead a sync into the network behind the server.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from urllib.parse import urlsplit

from server.ingestion.sources.address import DEFAULT_PORTS, require_allowed
from server.ingestion.sources.fetching import AddressPolicy
from server.refusal import SourceRefused

_PRIVATE_NETWORKS = tuple(
    map(ip_network, ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"))
)

Place = tuple[str, int]
"""A host and a port."""


@dataclass(frozen=True, slots=True)
class Reach:
    """`hosts` holds names, each with all hosts below it, and `host:port` for places that may have private addresses."""

    hosts: Sequence[str] = ()

    def require(self, address: str) -> None:
        """Let a canonical address pass that a source may start at. Raises SourceRefused."""
        self.of(address)

    def of(self, address: str) -> tuple[Sequence[str], AddressPolicy]:
        """Return the hosts that a sync from this canonical address may ask, and the rule for their addresses.

        Raises SourceRefused for a host that nobody allowed, and for a port other than 80 and 443 that nobody named.
        """
        places = [place for entry in self.hosts if (place := _place(entry))]
        parts = urlsplit(address)
        here = parts.hostname or "", DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
        if here in places:
            return here[:1], AddressPolicy(
                allowed_networks=_PRIVATE_NETWORKS,
                allowed_ports=frozenset({here[1]}),
                allowed_hosts=frozenset({here[0]}),
            )
        names = [entry for entry in self.hosts if not _place(entry)]
        require_allowed(address, names)
        if here[1] not in DEFAULT_PORTS.values():
            raise SourceRefused(
                "This port of the host is not on the list of allowed hosts, BACMR_SOURCE_HOSTS.",
                host=here[0],
                port=here[1],
            )
        return names, AddressPolicy()


def _place(entry: str) -> Place | None:
    host, _, port = entry.rpartition(":")
    return (host.strip("[]").lower(), int(port)) if host and port.isdigit() else None
