"""What a site's robots.txt allows us."""

from dataclasses import dataclass

from protego import Protego

ROBOTS_MAX_BYTES = 512 * 1024
MIN_DELAY_SECONDS = 1.0
MAX_DELAY_SECONDS = 60.0
_AGENT = "BacMR"


@dataclass(frozen=True, slots=True)
class Robots:
    """The rules of one site (RFC 9309)."""

    rules: Protego | None

    def allow(self, address: str) -> bool:
        """Say whether we may fetch an address. Without rules (robots.txt unreachable) nothing is allowed."""
        return self.rules is not None and bool(self.rules.can_fetch(address, _AGENT))

    @property
    def delay_seconds(self) -> float:
        """Wait between two requests to the site: what it asks for, within our limits."""
        asked = float(self.rules.crawl_delay(_AGENT) or 0.0) if self.rules else 0.0
        return min(max(asked, MIN_DELAY_SECONDS), MAX_DELAY_SECONDS)

    @property
    def sitemaps(self) -> tuple[str, ...]:
        """Addresses of sitemaps that the site names."""
        return tuple(self.rules.sitemaps) if self.rules else ()


def parse(status: int, body: bytes) -> Robots:
    """Return the rules for an answer to /robots.txt: 4xx means that all is allowed, 5xx that nothing is."""
    if status >= 500:
        return Robots(None)
    text = "" if status >= 400 else body[:ROBOTS_MAX_BYTES].decode("utf-8", "replace")
    return Robots(Protego.parse(text))
