"""Bringing a web source up to date: each page is fetched politely, judged, compared and, if it is new, ingested."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

import structlog

from server import caller
from server.blobs.port import BlobStore, holds
from server.corpus.passage import Document, NewDocument
from server.corpus.service import CorpusService
from server.database.pool import Connection, Database
from server.ingestion.duplicates import originals
from server.ingestion.extraction import html
from server.ingestion.extraction.filetype import FileType
from server.ingestion.extraction.page import ExtractionFailed, Page
from server.ingestion.extraction.worker import Extraction
from server.ingestion.judging import JudgedPage, PageVerdict, judge
from server.ingestion.scratch import Scratch
from server.ingestion.service import IngestionService
from server.ingestion.sources import links
from server.ingestion.sources.address import canonical
from server.ingestion.sources.crawl import Crawl, Pause
from server.ingestion.sources.fetching import Fetched, Fetcher, FetchFailed, Seen, guarded_client
from server.ingestion.sources.reach import Reach
from server.ingestion.sources.source import Source, SyncedPage, Verdict
from server.ingestion.store.pages import PageStore
from server.ingestion.store.source_pages import PageState, SourcePageStore
from server.ingestion.uploads import FILES
from server.refusal import Conflict, NotFound, SourceRefused
from server.text.fold import canonical as folded
from server.text.fold import one_line

MAX_PAGE_BYTES = 20 * 1024 * 1024
SERVER_ERROR = 500
SITE_IS_DOWN = "The site failed page after page and is left alone until the next sync."
_TYPES = {
    "text/html": FileType.HTML,
    "application/xhtml+xml": FileType.HTML,
    "application/pdf": FileType.PDF,
    "text/plain": FileType.TEXT,
    "text/markdown": FileType.MARKDOWN,
}
_NO_DOCUMENT = UUID(int=0)
_MAX_TITLE_CHARACTERS = 300

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Content:
    """A fetched page with what reading it gave."""

    fetched: Fetched
    file_type: FileType
    pages: Sequence[JudgedPage]
    content_hash: str
    links: tuple[str, ...]
    title: str

    @property
    def searchable(self) -> bool:
        return any(page.verdict is PageVerdict.INDEXED for page in self.pages)


class SourceSync:
    """Syncs sources, as the system. A second run over an unchanged site downloads and adds nothing."""

    def __init__(
        self,
        database: Database,
        corpus: CorpusService,
        blobs: BlobStore,
        service: IngestionService,
        extraction: Extraction,
        *,
        reach: Reach,
        scratch: Scratch,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._database = database
        self._corpus = corpus
        self._blobs = blobs
        self._service = service
        self._extraction = extraction
        self._reach = reach
        self._scratch = scratch
        self._pause = pause
        self._states = SourcePageStore()
        self._pages = PageStore()

    async def sync(self, source: Source) -> AsyncGenerator[SyncedPage, None]:
        """Yield the verdict on each page as it is reached.

        Raises SourceRefused when the start may not be fetched, and when the site is down.
        """
        with caller.acting_as(caller.system(caller.current().request_id)):
            who = caller.current()
        hosts, policy = self._reach.of(canonical(source.plan.start_url))
        async with guarded_client(policy) as client:
            fetcher = Fetcher(client, hosts, MAX_PAGE_BYTES)
            crawl = Crawl(fetcher, source.plan.start_url, source.plan.max_pages, self._pause)
            visits = crawl.addresses()
            while True:
                with caller.acting_as(who):
                    address = await anext(visits, None)
                    if address is None:
                        return
                    page = await self._visit(source, crawl, fetcher, address)
                log.info("source_page", source_id=str(source.id), url=page.url, verdict=page.verdict)
                yield page
                if crawl.site_is_down:
                    raise SourceRefused(SITE_IS_DOWN)

    async def _visit(self, source: Source, crawl: Crawl, fetcher: Fetcher, address: str) -> SyncedPage:
        try:
            if not await crawl.allowed(address):
                return SyncedPage(address, Verdict.REJECTED, "robots.txt does not allow it")
            await crawl.wait(address)
            before = await self._state(source, address)
            fetched = await fetcher.fetch(address, Seen(before.etag, before.last_modified))
        except SourceRefused as refused:
            return SyncedPage(address, Verdict.REJECTED, str(refused))
        except FetchFailed as failed:
            crawl.answered(well=False)
            return SyncedPage(address, Verdict.FAILED, str(failed))
        crawl.answered(well=fetched.status < SERVER_ERROR)
        if fetched.body is None:
            crawl.add(before.links, on=address)
            return SyncedPage(address, Verdict.UNCHANGED, "as last seen", before.document_id)
        if fetched.status >= 400:
            return SyncedPage(address, Verdict.FAILED, f"the site answered {fetched.status}")
        if fetched.address != address and crawl.known(fetched.address):
            return SyncedPage(address, Verdict.DUPLICATE, f"it leads to {fetched.address}")
        return await self._take(source, crawl, address, fetched, before)

    async def _state(self, source: Source, address: str) -> PageState:
        """Return what is known of a page: nothing when its document or the file of that is gone, to take it anew."""
        async with self._database.transaction() as connection:
            state = await self._states.get(connection, source.id, address)
            if state is None:
                return PageState()
            if state.document_id is None:
                return state
            try:
                document = await self._corpus.read_document(connection, state.document_id)
            except NotFound:
                return PageState()
        if document.source_url != address or await holds(self._blobs, document.blob_key):
            return state
        return PageState()

    async def _take(
        self, source: Source, crawl: Crawl, address: str, fetched: Fetched, before: PageState
    ) -> SyncedPage:
        """Decide on a page that was downloaded, and keep the decision."""
        file_type = _TYPES.get(fetched.content_type)
        if file_type is None:
            return SyncedPage(address, Verdict.REJECTED, f"its type is {fetched.content_type or 'unknown'}")
        try:
            content = await self._read(fetched, file_type, source)
        except ExtractionFailed as failed:
            return SyncedPage(address, Verdict.REJECTED, str(failed))
        crawl.add(content.links, on=fetched.address)
        page = await self._decide(source, address, content, before)
        state = PageState(
            etag=fetched.seen.etag,
            last_modified=fetched.seen.last_modified,
            content_hash=content.content_hash,
            links=content.links,
            document_id=page.document_id,
            verdict=page.verdict,
        )
        if page.verdict is not Verdict.FAILED:
            async with self._database.transaction() as connection:
                await self._states.put(connection, source.id, address, state, page.reason)
        return page

    async def _decide(self, source: Source, address: str, content: _Content, before: PageState) -> SyncedPage:
        if content.content_hash == before.content_hash:
            return SyncedPage(address, Verdict.UNCHANGED, "the same text", before.document_id)
        if not content.searchable:
            return SyncedPage(address, Verdict.REJECTED, content.pages[0].reason if content.pages else "it is empty")
        original = await self._original(source, address, content)
        if original is not None:
            return SyncedPage(address, Verdict.DUPLICATE, "it nearly repeats another document", original)
        try:
            document = await self._ingest(source, address, content)
        except Conflict:
            return SyncedPage(address, Verdict.FAILED, "its last version is still being ingested", before.document_id)
        return SyncedPage(address, Verdict.INGESTED, "", document.id)

    async def _read(self, fetched: Fetched, file_type: FileType, source: Source) -> _Content:
        """Read a page in a process of its own, as any other file."""
        body = fetched.body or b""
        with self._scratch.file() as path:
            await asyncio.to_thread(path.write_bytes, body)
            messages = self._extraction.read(path, file_type, language=source.plan.placement.language or "")
            pages = [message async for message in messages if isinstance(message, Page)]
        judged = await asyncio.to_thread(judge, pages, source.plan.placement.language, chosen=False)
        text = "\n".join(page.text for page in judged)
        found: tuple[str, ...] = ()
        title = ""
        if file_type is FileType.HTML:
            markup = html.decode_html(body)
            found = tuple(await asyncio.to_thread(links.on_page, markup))
            title = html.title(markup)
        digest = hashlib.sha256(folded(text).encode()).hexdigest()
        return _Content(fetched, file_type, judged, digest, found, title or _first_line(text))

    async def _original(self, source: Source, address: str, content: _Content) -> UUID | None:
        """Return a document that this one nearly repeats: each searchable page has its like in another document."""
        indexed = [page for page in content.pages if page.verdict is PageVerdict.INDEXED]
        async with self._database.transaction() as connection:
            own = await self._corpus.document_from_source(connection, address)
            but = own.id if own else _NO_DOCUMENT
            candidates = await self._pages.near(connection, but, None, source.plan.placement.namespace, indexed)
        if any(page.number not in candidates for page in indexed):
            return None
        texts = {page.number: page.text for page in indexed}
        found = await asyncio.to_thread(originals, texts, candidates)
        return next(iter(found.values())).document_id if found and len(found) == len(indexed) else None

    async def _ingest(self, source: Source, address: str, content: _Content) -> Document:
        """Store the page's bytes and ask for their ingestion, under the document it was before if there is one."""
        body = content.fetched.body or b""
        key = f"{FILES}{uuid4()}"
        await self._blobs.put_bytes(key, body)
        new = NewDocument(
            title=(one_line(content.title) or address)[:_MAX_TITLE_CHARACTERS],
            content_type=content.file_type,
            size_bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
            blob_key=key,
            source_url=address,
        )
        try:
            async with self._database.transaction() as connection:
                document, old_key = await self._document(connection, new)
                await self._service.add_job(connection, document, source.plan.placement)
        except BaseException:
            await self._blobs.delete(key)
            raise
        if old_key:
            await self._blobs.delete(old_key)
        return document

    async def _document(self, connection: Connection, new: NewDocument) -> tuple[Document, str]:
        """Return the page's document, pointed at the new file, and the key of the file it had before."""
        before = await self._corpus.document_from_source(connection, new.source_url)
        if before is None:
            return await self._corpus.create_document(connection, new), ""
        await self._corpus.replace_file(connection, before.id, new)
        return before, before.blob_key


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
