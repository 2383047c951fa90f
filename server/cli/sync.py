"""`bacmr sync`: bring a web source up to date and show each page's verdict."""

from collections.abc import AsyncIterator

import typer
from rich.console import Console

from bacmr.client import BacmrClient, request_id
from bacmr.v1 import admin_pb2
from server.cli.remote import Login, signed_in

VERDICT_WORDS = {
    admin_pb2.PAGE_VERDICT_INGESTED: "ingested",
    admin_pb2.PAGE_VERDICT_UNCHANGED: "unchanged",
    admin_pb2.PAGE_VERDICT_DUPLICATE: "duplicate",
    admin_pb2.PAGE_VERDICT_REJECTED: "rejected",
    admin_pb2.PAGE_VERDICT_FAILED: "failed",
}


async def sync(login: Login, source: str) -> bool:
    """Sign in and sync the source with this name or id; False when the sync failed."""
    console = Console(highlight=False, soft_wrap=True)
    async with signed_in(login) as client:
        request = admin_pb2.SyncSourceRequest(source_id=await _id(client, source), request_id=request_id())
        async for event in client.admin.SyncSource(request):
            if event.done:
                console.print(event.reason, markup=False)
                return event.verdict != admin_pb2.PAGE_VERDICT_FAILED
            if not event.url:
                continue
            told = f"{VERDICT_WORDS[event.verdict]:10}{event.url}"
            console.print(f"{told} ({event.reason})" if event.reason else told, markup=False)
    return False


async def _id(client: BacmrClient, wanted: str) -> str:
    async for source in _sources(client):
        if wanted in (source.id, source.name):
            return source.id
    raise typer.BadParameter(f"there is no source with the name or id {wanted}")


async def _sources(client: BacmrClient) -> AsyncIterator[admin_pb2.Source]:
    page_token = ""
    while True:
        page = await client.admin.ListSources(admin_pb2.ListSourcesRequest(page_token=page_token))
        for source in page.sources:
            yield source
        page_token = page.next_page_token
        if not page_token:
            return
