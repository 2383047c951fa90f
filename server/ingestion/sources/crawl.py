"""Which pages of a site are visited and how fast: breadth first, one at a time, as robots.txt allows."""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from server.ingestion.sources import links, robots
from server.ingestion.sources.address import canonical, same_site, site
from server.ingestion.sources.fetching import Fetched, Fetcher, FetchFailed
from server.ingestion.sources.robots import Robots
from server.refusal import SourceRefused

MAX_SITEMAPS = 50
FAILURES_IN_A_ROW = 5
"""A site that fails so often is down: each further page would cost it a request, and us a minute."""
_SITEMAP_SUFFIXES = (".xml", ".xml.gz")

Pause = Callable[[float], Awaitable[object]]


class Crawl:
    """The frontier of one sync: hands out addresses of one site, each once, and waits between requests."""

    def __init__(self, fetcher: Fetcher, start_url: str, max_pages: int, pause: Pause) -> None:
        self._fetcher = fetcher
        self._start = canonical(start_url)
        self._max_pages = max_pages
        self._pause = pause
        self._waiting: deque[str] = deque()
        self._known: set[str] = set()
        self._rules: dict[str, Robots] = {}
        self._failures = 0

    async def addresses(self) -> AsyncIterator[str]:
        """Yield addresses to visit until none is left or the source's limit is reached."""
        await self._begin()
        for _ in range(self._max_pages):
            if not self._waiting:
                return
            yield self._waiting.popleft()

    def add(self, found: Iterable[str], on: str) -> None:
        """Add the links of a page; those to other sites and those known already are left out."""
        for link in found:
            try:
                address = canonical(link, relative_to=on)
            except SourceRefused:
                continue
            if same_site(address, self._start):
                self._push(address)

    def answered(self, well: bool) -> None:
        """Note whether the site answered a request: not at all, and that it cannot, are failures."""
        self._failures = 0 if well else self._failures + 1

    @property
    def site_is_down(self) -> bool:
        """Say whether the site has failed so often in a row that it is left alone."""
        return self._failures >= FAILURES_IN_A_ROW

    def known(self, address: str) -> bool:
        """Say whether an address was handed out or waits; it counts as known from now on."""
        if address in self._known:
            return True
        self._known.add(address)
        return False

    async def allowed(self, address: str) -> bool:
        """Say whether robots.txt lets us fetch an address."""
        return (await self._robots(address)).allow(address)

    async def wait(self, address: str) -> None:
        """Wait as long as the site asks for between two requests."""
        await self._pause((await self._robots(address)).delay_seconds)

    async def _begin(self) -> None:
        if self._start.endswith(_SITEMAP_SUFFIXES):
            await self._read_sitemaps([self._start])
            return
        self._push(self._start)
        await self._read_sitemaps((await self._robots(self._start)).sitemaps)

    async def _read_sitemaps(self, addresses: Iterable[str]) -> None:
        waiting = deque(addresses)
        for _ in range(MAX_SITEMAPS):
            if not waiting:
                return
            try:
                fetched = await self._fetcher.fetch(waiting.popleft())
            except (FetchFailed, SourceRefused):
                continue
            pages, further = links.sitemap(fetched.body or b"")
            self.add(pages, on=self._start)
            waiting.extend(further)

    async def _robots(self, address: str) -> Robots:
        where = site(address)
        if where not in self._rules:
            self._rules[where] = await self._fetch_robots(where)
        return self._rules[where]

    async def _fetch_robots(self, where: str) -> Robots:
        try:
            fetched: Fetched = await self._fetcher.fetch(f"{where}/robots.txt")
        except FetchFailed:
            return Robots(None)
        return robots.parse(fetched.status, fetched.body or b"")

    def _push(self, address: str) -> None:
        if not self.known(address):
            self._waiting.append(address)
