"""`bacmr ingest`: files from a folder into the library, with progress."""

import mimetypes
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from bacmr.client import BacmrClient, request_id
from bacmr.v1 import ingestion_pb2
from server.cli.remote import Login, signed_in

STATE_WORDS = {
    ingestion_pb2.JOB_STATE_PENDING: "waiting",
    ingestion_pb2.JOB_STATE_EXTRACTING: "reading pages",
    ingestion_pb2.JOB_STATE_CHUNKING: "cutting into chunks",
    ingestion_pb2.JOB_STATE_EMBEDDING: "making vectors",
    ingestion_pb2.JOB_STATE_INDEXING: "indexing",
    ingestion_pb2.JOB_STATE_READY: "ready",
    ingestion_pb2.JOB_STATE_FAILED: "failed",
    ingestion_pb2.JOB_STATE_CANCELLED: "cancelled",
}

mimetypes.add_type("text/markdown", ".md")


async def ingest(login: Login, files: Sequence[Path], namespace: str, subject: str, grade: str) -> bool:
    """Sign in and ingest every file; False when one failed."""
    console = Console(stderr=True, highlight=False)
    async with signed_in(login) as client:
        with progress_bars(console) as bars:
            jobs = [await ingest_file(client, bars, file, namespace, subject, grade) for file in files]
    for file, job in zip(files, jobs, strict=True):
        if job.state != ingestion_pb2.JOB_STATE_READY:
            console.print(f"{file.name}: {job.failure_reason}", style="red", markup=False)
    return all(job.state == ingestion_pb2.JOB_STATE_READY for job in jobs)


def progress_bars(console: Console) -> Progress:
    """Return a display with one line per file."""
    return Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), console=console)


async def ingest_file(
    client: BacmrClient, bars: Progress, file: Path, namespace: str, subject: str, grade: str, title: str = ""
) -> ingestion_pb2.Job:
    """Upload one file, start its job and show its progress to the end."""
    bar = bars.add_task(file.name, total=None, state="uploading")
    content_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    document = await client.upload(file, content_type, title=title)
    created = await client.ingestion.CreateIngestionJob(
        ingestion_pb2.CreateIngestionJobRequest(
            document_id=document.id, namespace=namespace, subject=subject, grade=grade, request_id=request_id()
        )
    )
    job = created.job
    async for event in client.ingestion.WatchIngestionJob(ingestion_pb2.WatchIngestionJobRequest(job_id=job.id)):
        job = event.job
        _show(bars, bar, job)
    return job


def _show(bars: Progress, bar: TaskID, job: ingestion_pb2.Job) -> None:
    counted = f" {job.pages_done}/{job.pages_total} pages" if job.pages_total else ""
    ended = job.state in (
        ingestion_pb2.JOB_STATE_READY,
        ingestion_pb2.JOB_STATE_FAILED,
        ingestion_pb2.JOB_STATE_CANCELLED,
    )
    total = max(1, 2 * job.pages_total) if job.pages_total else None
    half = job.pages_total * job.chunks_done / job.chunks_total if job.chunks_total else 0
    done = total if ended else job.pages_done + half
    bars.update(bar, total=total, completed=done or 0, state=STATE_WORDS.get(job.state, "") + counted)
