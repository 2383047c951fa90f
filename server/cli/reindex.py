"""`bacmr reindex`: a new index beside the searched one, with progress; the switch, the way back, the clean-up."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bacmr.client import BacmrClient, request_id
from bacmr.v1 import admin_pb2
from server.app.stores import attached_database
from server.caller import acting_as, system
from server.cli.remote import Login, signed_in
from server.config import Settings
from server.corpus.passage import CorpusFilter
from server.corpus.service import CorpusService
from server.corpus.terms import SearchTerms

EXPORT_BATCH = 500
WATCH_SECONDS = 600.0
"""After which the watching begins anew: a reindex may take longer than a call."""
OPEN = (admin_pb2.OPERATION_STATE_PENDING, admin_pb2.OPERATION_STATE_RUNNING)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to build: an empty `namespace` is the whole library, an empty `model` the configured one."""

    namespace: str
    model: str
    activate: bool


async def reindex(login: Login, wanted: Wanted) -> bool:
    """Build an index, say what was verified and what to do next; False when it failed or was stopped."""
    console = Console(stderr=True, highlight=False)
    async with signed_in(login) as client:
        asked = admin_pb2.StartReindexRequest(
            namespace=wanted.namespace, embedding_model=wanted.model, request_id=request_id()
        )
        operation = await _watched(client, console, (await client.admin.StartReindex(asked)).operation)
        if operation.state != admin_pb2.OPERATION_STATE_SUCCEEDED:
            console.print(f"not built: {operation.error or 'it was stopped'}", style="red", markup=False)
            return False
        built = json.loads(operation.result)
        _tell(console, built)
        if wanted.activate and not built["namespace"]:
            await _activate(client, console, built["index"])
        else:
            _advise(console, built, wanted.model, await _searched(client))
    return True


async def rollback(login: Login) -> None:
    """Search the index before again."""
    async with signed_in(login) as client:
        answer = await client.admin.RollbackIndex(admin_pb2.RollbackIndexRequest(request_id=request_id()))
    _say(f"searched again: {answer.index.name}")


async def drop(login: Login, name: str) -> None:
    """Drop an index that is not searched."""
    async with signed_in(login) as client:
        await client.admin.DropIndex(admin_pb2.DropIndexRequest(index_name=name, request_id=request_id()))
    _say(f"dropped: {name}")


async def renew_terms(settings: Settings) -> None:
    """Make outdated search terms again, with progress; beside a server or without, killed and run again at will."""
    console = Console(stderr=True, highlight=False)
    async with attached_database(settings) as database:
        terms = SearchTerms(database)
        with acting_as(system()), _bars(console) as bars:
            bar = bars.add_task("terms", total=await terms.outdated())

            async def report(renewed: int) -> None:
                bars.advance(bar, renewed)

            renewed = await terms.renew(report)
    _say(f"search terms of {renewed} chunks made again")


async def export_texts(settings: Settings, namespace: str, output: Path) -> None:
    """Write the texts of all chunks, or of a namespace, as one JSON object per line; beside a server or without."""
    part, written, after = output.with_name(f"{output.name}.part"), 0, ""
    async with attached_database(settings) as database:
        corpus, where = CorpusService(database), CorpusFilter(namespace=namespace)
        with acting_as(system()), part.open("w", encoding="utf-8") as file:
            while chunks := await corpus.chunks_after(where, after, EXPORT_BATCH):
                after = chunks[-1].id
                written += len(chunks)
                for chunk in chunks:
                    file.write(json.dumps(asdict(chunk), ensure_ascii=False, default=str) + "\n")
    part.replace(output)
    _say(f"{written} chunks in {output}")


def _bars(console: Console) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("chunks")
    return Progress(*columns, console=console)


async def _watched(client: BacmrClient, console: Console, operation: admin_pb2.Operation) -> admin_pb2.Operation:
    with _bars(console) as bars:
        bar = bars.add_task("waiting", total=None)
        watch = admin_pb2.WatchOperationRequest(operation_id=operation.id)
        while operation.state in OPEN:
            try:
                async for event in client.admin.WatchOperation(watch, timeout=WATCH_SECONDS):
                    operation = event.operation
                    description = operation.stage or "waiting"
                    bars.update(bar, description=description, completed=operation.done, total=operation.total or None)
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
                    raise
    return operation


def _tell(console: Console, built: dict[str, object]) -> None:
    recall = built["sample_recall"]
    asked = f"{built['sample_queries']} questions"
    shared = "nothing to compare with" if recall is None else f"finds {recall:.0%} of the hits before, {asked}"
    if built["renewed_terms"]:
        console.print(f"terms     of {built['renewed_terms']} chunks made again", markup=False)
    console.print(f"index     {built['index']}", markup=False)
    console.print(f"model     {built['embedding_model']} ({built['dimensions']} dimensions)", markup=False)
    console.print(f"verified  {built['actual_count']} vectors of {built['expected_count']} chunks", markup=False)
    console.print(f"alike     {shared}", markup=False)


async def _activate(client: BacmrClient, console: Console, name: str) -> None:
    before = await _searched(client)
    request = admin_pb2.ActivateIndexRequest(index_name=name, request_id=request_id())
    await client.admin.ActivateIndex(request)
    console.print(f"searched  {name}", markup=False)
    if before != name:
        console.print("go back:  bacmr reindex --rollback", markup=False)
        console.print(f"clean up: bacmr reindex --drop {before}", markup=False)


def _advise(console: Console, built: dict[str, object], model: str, searched: str) -> None:
    if searched == built["index"]:
        return
    named = f" --model {model}" if model else ""
    word = "complete and switch" if built["namespace"] else "switch"
    console.print(f"{word}: bacmr reindex --all{named} --activate (nothing is embedded twice)", markup=False)
    console.print(f"clean up: bacmr reindex --drop {searched} (after the switch)", markup=False)


async def _searched(client: BacmrClient) -> str:
    status = await client.admin.GetStatus(admin_pb2.GetStatusRequest())
    return next((index.name for index in status.indexes if index.state == admin_pb2.INDEX_STATE_ACTIVE), "")


def _say(line: str) -> None:
    Console(stderr=True, highlight=False).print(line, markup=False)
