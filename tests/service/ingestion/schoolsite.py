"""A small school site on loopback that counts what is downloaded from it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from server.ingestion.job import Placement
from server.ingestion.sources.reach import Reach
from server.ingestion.sources.source import Plan, Source
from tests.service.ingestion.ingesting import sample

ROBOTS = "User-agent: *\nDisallow: /secret\nCrawl-delay: 2\n"


def article(title: str, text: str, links: str = "") -> str:
    paragraphs = "".join(f"<p>{part}</p>" for part in text.split("\n\n"))
    return (
        f"<html><head><title>{title}</title></head><body><nav>{links}</nav>"
        f"<article><h1>{title}</h1>{paragraphs}</article></body></html>"
    )


@dataclass
class Site:
    """A small school site that counts what is downloaded from it."""

    pages: dict[str, tuple[str, str]] = field(default_factory=dict)
    robots: tuple[int, str] = (200, ROBOTS)
    bodies: list[str] = field(default_factory=list)
    port: int = 0
    trouble: dict[str, int] = field(default_factory=dict)
    """Paths that answer with a status of their own."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def reach(self) -> Reach:
        """What an operator sets to allow this site in an intranet, and one on the web."""
        return Reach([f"127.0.0.1:{self.port}", "cours.example"])

    async def answer(self, request: Request) -> Response:
        path = request.url.path
        if path == "/robots.txt":
            return PlainTextResponse(self.robots[1], self.robots[0])
        if path == "/away":
            return RedirectResponse("http://evil.example/")
        if path == "/round":
            return RedirectResponse("/round")
        if path == "/moved":
            return RedirectResponse("/newton")
        if path in self.trouble:
            return PlainTextResponse("busy", self.trouble[path])
        if path not in self.pages:
            return PlainTextResponse("none", 404)
        body, content_type = self.pages[path]
        etag = f'"{hash(body)}"'
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"etag": etag})
        self.bodies.append(path)
        return Response(body, media_type=content_type, headers={"etag": etag})


@asynccontextmanager
async def serving() -> AsyncIterator[Site]:
    """Serve the site."""
    school = Site()
    app = Starlette(routes=[Route("/{path:path}", school.answer)])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", ws="none"))
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    school.port = server.servers[0].sockets[0].getsockname()[1]
    links = '<a href="/newton">1</a><a href="/photo?utm_source=x">2</a><a href="/secret">3</a><a href="/gone">4</a>'
    school.pages = {
        "/": (article("Accueil", sample("maths_suites.md").decode(), links), "text/html"),
        "/newton": (article("Newton", sample("physique_newton.md").decode()), "text/html"),
        "/photo": (article("Photosynthèse", sample("biologie_photosynthese.md").decode()), "text/html"),
        "/secret": (article("Secret", "x"), "text/html"),
    }
    try:
        yield school
    finally:
        server.should_exit = True
        await running


def source_of(start_url: str, placement: Placement | None = None, max_pages: int = 50) -> Source:
    """A source that no other test has."""
    where = placement or Placement(f"web-{uuid4().hex[:8]}", "mixed", "12")
    return Source(uuid4(), Plan("School", start_url, where, max_pages=max_pages), datetime.now(UTC))
