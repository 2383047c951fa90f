"""Syncing a web source over a real HTTP server on loopback."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from server import caller
from server.caller import Caller
from server.corpus.passage import DocumentFilter
from server.ingestion.extraction.page import Limits
from server.ingestion.extraction.worker import Extraction
from server.ingestion.scratch import Scratch
from server.ingestion.sources.source import Source, SyncedPage, Verdict
from server.ingestion.sources.sync import SourceSync
from server.refusal import SourceRefused
from tests.service.ingestion.ingesting import House, sample
from tests.service.ingestion.schoolsite import Site, article, serving, source_of


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    async with serving() as school:
        yield school


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def sync(house: House, site: Site, pauses: list[float]) -> SourceSync:
    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    return SourceSync(
        house.database,
        house.corpus,
        house.blobs,
        house.service,
        Extraction(Limits()),
        reach=site.reach,
        scratch=Scratch(house.scratch),
        pause=pause,
    )


@pytest.fixture
def source(site: Site) -> Source:
    return source_of(f"{site.address}/")


async def run(sync: SourceSync, source: Source) -> dict[str, SyncedPage]:
    return {page.url.removeprefix("http://127.0.0.1").partition("/")[2]: page async for page in sync.sync(source)}


async def documents(house: House, source: Source) -> set[UUID]:
    page = await house.corpus.list_documents(DocumentFilter(namespace=source.plan.placement.namespace), 0, "")
    return {document.id for document in page.items}


async def test_each_page_gets_its_verdict(
    house: House, teacher: Caller, sync: SourceSync, source: Source, site: Site
) -> None:
    found = await run(sync, source)
    assert {path: page.verdict for path, page in found.items()} == {
        "": Verdict.INGESTED,
        "newton": Verdict.INGESTED,
        "photo": Verdict.INGESTED,
        "secret": Verdict.REJECTED,
        "gone": Verdict.FAILED,
    }
    assert "robots.txt" in found["secret"].reason
    assert "/secret" not in site.bodies


async def test_ingested_pages_become_searchable_documents(
    house: House, teacher: Caller, sync: SourceSync, source: Source
) -> None:
    found = await run(sync, source)
    await house.run_queued()
    page = found["newton"]
    assert page.document_id is not None
    document = await house.corpus.document(page.document_id)
    assert (document.title, document.source_url) == ("Newton", page.url)
    assert "principe d'inertie" in " ".join(chunk.text for chunk in await house.corpus.document_chunks(document.id))


async def test_a_second_sync_of_an_unchanged_site_downloads_and_adds_nothing(
    house: House, teacher: Caller, sync: SourceSync, source: Source, site: Site
) -> None:
    await run(sync, source)
    await house.run_queued()
    before = await documents(house, source)
    site.bodies.clear()
    again = await run(sync, source)
    assert {page.verdict for path, page in again.items() if path in ("", "newton", "photo")} == {Verdict.UNCHANGED}
    assert site.bodies == []
    assert not house.queue.due
    assert await documents(house, source) == before


async def test_a_changed_page_replaces_its_document(
    house: House, teacher: Caller, sync: SourceSync, source: Source, site: Site
) -> None:
    first = await run(sync, source)
    await house.run_queued()
    changed = sample("physique_newton.md").decode().replace("galiléen", "inertiel")
    site.pages["/newton"] = (article("Newton", changed), "text/html")
    second = await run(sync, source)
    await house.run_queued()
    assert second["newton"].verdict is Verdict.INGESTED
    assert second["newton"].document_id == first["newton"].document_id
    chunks = await house.corpus.document_chunks(second["newton"].document_id or uuid4())
    assert chunks
    assert not any("galiléen" in chunk.text for chunk in chunks)


async def test_a_page_that_only_looks_new_is_unchanged(
    house: House, teacher: Caller, sync: SourceSync, source: Source, site: Site
) -> None:
    await run(sync, source)
    await house.run_queued()
    body, content_type = site.pages["/newton"]
    site.pages["/newton"] = (body.replace("<nav>", "<nav><!-- 12:00 -->"), content_type)
    again = await run(sync, source)
    assert (again["newton"].verdict, again["newton"].reason) == (Verdict.UNCHANGED, "the same text")


async def publish_a_copy(house: House, sync: SourceSync, source: Source, site: Site) -> UUID:
    """Sync the site, then put a nearly equal copy of the page on Newton on it; return the document of the original."""
    first = await run(sync, source)
    await house.run_queued()
    copy = sample("physique_newton.md").decode().replace("référentiel", "reférentiel", 1)
    site.pages["/copy"] = (article("Newton", copy), "text/html")
    site.pages["/"] = (article("Accueil", sample("maths_suites.md").decode(), '<a href="/copy">c</a>'), "text/html")
    original = first["newton"].document_id
    assert original is not None
    return original


async def test_a_copy_of_another_page_is_linked_to_it(
    house: House, teacher: Caller, sync: SourceSync, source: Source, site: Site
) -> None:
    original = await publish_a_copy(house, sync, source, site)
    page = (await run(sync, source))["copy"]
    assert (page.verdict, page.document_id) == (Verdict.DUPLICATE, original)


async def test_a_page_whose_original_is_gone_is_taken_in_its_place(
    house: House, teacher: Caller, sync: SourceSync, source: Source, site: Site
) -> None:
    original = await publish_a_copy(house, sync, source, site)
    await run(sync, source)
    with caller.acting_as(caller.system()):
        await house.service.delete_document(original, uuid4())
    assert (await run(sync, source))["copy"].verdict is Verdict.INGESTED


async def test_the_wait_between_requests_is_what_the_site_asks_for(
    teacher: Caller, sync: SourceSync, source: Source, pauses: list[float]
) -> None:
    await run(sync, source)
    assert pauses
    assert set(pauses) == {2.0}


async def test_no_more_pages_are_visited_than_the_source_allows(
    teacher: Caller, sync: SourceSync, source: Source
) -> None:
    few = source_of(source.plan.start_url, max_pages=2)
    assert len(await run(sync, few)) == 2


async def test_a_sitemap_names_the_pages(teacher: Caller, sync: SourceSync, source: Source, site: Site) -> None:
    body = f"<urlset><url><loc>{site.address}/photo</loc></url></urlset>"
    site.pages["/sitemap.xml"] = (body, "application/xml")
    listed = source_of(f"{site.address}/sitemap.xml")
    assert set(await run(sync, listed)) == {"photo"}


async def test_links_to_other_sites_and_redirects_to_them_are_not_followed(
    teacher: Caller, sync: SourceSync, source: Source, site: Site
) -> None:
    links = '<a href="http://evil.example/">1</a><a href="/away">2</a><a href="/round">3</a>'
    site.pages["/"] = (article("Accueil", sample("maths_suites.md").decode(), links), "text/html")
    found = await run(sync, source)
    assert set(found) == {"", "away", "round"}
    assert found["away"].verdict is Verdict.REJECTED
    assert found["round"].verdict is Verdict.FAILED


async def test_a_page_that_moved_is_not_taken_twice(
    teacher: Caller, sync: SourceSync, source: Source, site: Site
) -> None:
    links = '<a href="/newton">1</a><a href="/moved">2</a>'
    site.pages["/"] = (article("Accueil", sample("maths_suites.md").decode(), links), "text/html")
    found = await run(sync, source)
    assert (found["newton"].verdict, found["moved"].verdict) == (Verdict.INGESTED, Verdict.DUPLICATE)


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        ("<html><body><p>Trop court.</p></body></html>", "text/html", "only 2 words"),
        ("body { color: red }", "text/css", "type"),
        ("", "text/html", "EMPTY_FILE"),
    ],
    ids=["short", "type", "empty"],
)
async def test_pages_that_are_no_lessons_are_rejected(
    teacher: Caller, sync: SourceSync, source: Source, site: Site, body: str, content_type: str, reason: str
) -> None:
    site.pages["/photo"] = (body, content_type)
    page = (await run(sync, source))["photo"]
    assert page.verdict is Verdict.REJECTED
    assert reason in page.reason


async def test_a_site_whose_robots_file_fails_is_left_alone(
    teacher: Caller, sync: SourceSync, source: Source, site: Site
) -> None:
    site.robots = (503, "")
    found = await run(sync, source)
    assert [page.verdict for page in found.values()] == [Verdict.REJECTED]
    assert site.bodies == []


def linked(site: Site, statuses: list[int]) -> None:
    """Give the site a first page that links to one page per status."""
    links = "".join(f'<p><a href="/{number}">Leçon {number}</a></p>' for number in range(len(statuses)))
    text, content_type = site.pages["/"]
    site.pages["/"] = (text.replace("</body>", f"{links}</body>"), content_type)
    site.trouble = {f"/{number}": status for number, status in enumerate(statuses)}


async def test_a_site_that_fails_page_after_page_is_left_alone(
    teacher: Caller, sync: SourceSync, source: Source, site: Site
) -> None:
    linked(site, [503] * 20)
    found: list[SyncedPage] = []
    with pytest.raises(SourceRefused, match="page after page"):
        async for page in sync.sync(source):
            found.append(page)
    assert [page.reason for page in found[-5:]] == ["the site answered 503"] * 5
    assert sum(page.reason == "the site answered 503" for page in found) == 5


async def test_pages_that_fail_now_and_then_do_not_end_a_sync(
    teacher: Caller, sync: SourceSync, source: Source, site: Site
) -> None:
    linked(site, [503, 503, 503, 503, 404] * 3)
    found = await run(sync, source)
    assert sum(page.reason == "the site answered 503" for page in found.values()) == 12


async def test_a_source_on_a_host_that_is_not_allowed_is_refused(teacher: Caller, sync: SourceSync) -> None:
    with pytest.raises(SourceRefused):
        await run(sync, source_of("http://evil.example/"))


async def test_a_page_that_is_too_long_fails(teacher: Caller, sync: SourceSync, source: Source, site: Site) -> None:
    site.pages["/photo"] = ("x" * (21 * 1024 * 1024), "text/plain")
    page = (await run(sync, source))["photo"]
    assert (page.verdict, "longer" in page.reason) == (Verdict.FAILED, True)


async def test_a_page_whose_stored_file_was_lost_is_downloaded_again_into_the_same_document(
    house: House, teacher: Caller, sync: SourceSync, source: Source, site: Site
) -> None:
    first = await run(sync, source)
    await house.run_queued()
    document_id = first["newton"].document_id
    assert document_id is not None
    before = await documents(house, source)
    await house.blobs.delete((await house.corpus.document(document_id)).blob_key)
    site.bodies.clear()
    again = await run(sync, source)
    await house.run_queued()
    assert (again["newton"].verdict, again["newton"].document_id) == (Verdict.INGESTED, document_id)
    assert site.bodies == ["/newton"]
    assert await documents(house, source) == before
    restored = await house.corpus.document(document_id)
    assert b"Newton" in await house.blobs.get_bytes(restored.blob_key)
