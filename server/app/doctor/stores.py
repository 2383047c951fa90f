"""The stores: they answer, hold the right schema, and agree with each other."""

import asyncio
import time
from uuid import uuid4

from server.app.doctor.finding import Finding, Verdict
from server.app.rooms import FOREIGN_CHECKS
from server.app.startup import clearly
from server.app.stores import attached_database, embedded_are_served, schema_revision
from server.blobs.objects import open_blobs
from server.blobs.port import BlobStore, holds
from server.blobs.tickets import Tickets
from server.cache import redis_cache
from server.caller import acting_as, system
from server.config import Settings
from server.corpus.passage import DocumentFilter
from server.corpus.service import CorpusService
from server.corpus.terms import SearchTerms, advice
from server.corpus.vectors import VectorRefs
from server.database import diagnosis, migrate
from server.database.pool import Database
from server.jobs.queue import JobQueue
from server.vectors.lite import running_uri
from server.vectors.milvus import MilvusStore
from server.wallet.service import WalletService

CLOCK_SECONDS_APART = 2.0
VERSIONS = range(15, 19)
WAITING_SECONDS_DOUBTFUL = 600.0
NEWEST_FILES = 50
STARTS_WITH_SERVER = "embedded; it starts with the server, which does not run now"


async def postgres(settings: Settings) -> list[Finding]:
    """Ask the database for its version, schema, rights, clock, jobs and money."""
    if not settings.database_url.get_secret_value() and not embedded_are_served(settings):
        return [Finding("PostgreSQL", Verdict.UNUSED, STARTS_WITH_SERVER)]
    async with attached_database(settings) as database:
        with acting_as(system()):
            facts = await diagnosis.facts(database)
            findings = [*_server_findings(facts), _schema(await asyncio.to_thread(schema_revision, settings))]
            if findings[-1].verdict is Verdict.FINE:
                findings += [await _money(database), *await _jobs(database), await _terms(database)]
    return findings


def _server_findings(facts: diagnosis.Facts) -> list[Finding]:
    known = facts.major in VERSIONS
    detail = f"version {facts.major}" + ("" if known else f"; {VERSIONS.start} to {VERSIONS.stop - 1} are supported")
    findings = [Finding("PostgreSQL", Verdict.FINE if known else Verdict.DOUBTFUL, detail)]
    if not facts.durable:
        lost = "fsync or synchronous_commit is off: a power cut loses money that was acknowledged"
        findings.append(Finding("PostgreSQL", Verdict.WRONG, lost))
    if facts.unbound:
        findings.append(
            Finding("rights", Verdict.WRONG, "bacmr_app is a superuser or has BYPASSRLS: take that away from it")
        )
    apart = abs(facts.clock_seconds - time.time())
    if apart > CLOCK_SECONDS_APART:
        findings.append(Finding("clock", Verdict.WRONG, f"{apart:.0f} s from the database's: run a time service"))
    return findings


def _schema(revision: str) -> Finding:
    if revision == migrate.head():
        return Finding("schema", Verdict.FINE, f"at {revision}, the newest")
    if not migrate.known(revision or None):
        return Finding("schema", Verdict.DOUBTFUL, f"at {revision}, newer than this release: update it soon")
    return Finding("schema", Verdict.WRONG, f"at {revision or 'nothing'}, not {migrate.head()}: run `bacmr migrate`")


async def _money(database: Database) -> Finding:
    report = await WalletService(database, foreign_checks=FOREIGN_CHECKS).reconcile()
    failed = [check.name for check in report.checks if not check.ok]
    if failed:
        return Finding("money", Verdict.WRONG, f"{', '.join(failed)} found something: run `bacmr reconcile`")
    return Finding("money", Verdict.FINE, f"all {len(report.checks)} checks hold")


async def _jobs(database: Database) -> list[Finding]:
    queue = JobQueue(database)
    failing = [run.name for run in await queue.runs() if run.error]
    waiting = max((depth.oldest_seconds for depth in await queue.depths()), default=0.0)
    findings = []
    if failing:
        names = ", ".join(failing)
        findings.append(Finding("jobs", Verdict.DOUBTFUL, f"the last run failed of {names}: GetStatus says why"))
    if waiting > WAITING_SECONDS_DOUBTFUL:
        late = f"a job has waited for {waiting / 60:.0f} minutes: is a worker running, and are there enough?"
        findings.append(Finding("jobs", Verdict.DOUBTFUL, late))
    return findings or [Finding("jobs", Verdict.FINE, "none failed, none waits long")]


async def _terms(database: Database) -> Finding:
    outdated = await SearchTerms(database).outdated()
    if outdated:
        return Finding("full text", Verdict.DOUBTFUL, advice(outdated))
    return Finding("full text", Verdict.FINE, "all search terms are of this release")


async def milvus(settings: Settings) -> list[Finding]:
    """Ask Milvus for the live index and compare it with what PostgreSQL expects there."""
    uri = settings.milvus_uri or running_uri(settings.data_dir / "milvus")
    if uri is None:
        return [Finding("Milvus", Verdict.UNUSED, STARTS_WITH_SERVER)]
    store = MilvusStore(uri, settings.milvus_token.get_secret_value())
    try:
        await store.open()
        live = await store.live()
        if live is None:
            return [Finding("Milvus", Verdict.FINE, "answers; no index yet, the server makes it")]
        actual = await store.count(live)
    finally:
        await store.close()
    async with attached_database(settings) as database:
        with acting_as(system()):
            expected = await VectorRefs(database).count(live)
    if actual != expected:
        advice = f"{live} holds {actual} vectors, {expected} expected: restart a server, which gives it what is missing"
        return [Finding("Milvus", Verdict.DOUBTFUL, advice)]
    return [Finding("Milvus", Verdict.FINE, f"{live} holds all {actual} vectors")]


async def blobs(settings: Settings) -> list[Finding]:
    """Write, read and delete a small file, and look for those of the newest documents."""
    folder = settings.data_dir / "blobs"
    if not settings.blob_url and not folder.exists():
        return [Finding("files", Verdict.UNUSED, "embedded; the folder is made by the server")]
    with clearly():
        store: BlobStore = open_blobs(settings.blob_url or folder.absolute().as_uri(), Tickets(bytes(32), ""))
    key, content = f"doctor-{uuid4()}", b"bacmr"
    await store.put_bytes(key, content)
    try:
        read = await store.get_bytes(key)
    finally:
        await store.delete(key)
    if read != content:
        return [Finding("files", Verdict.WRONG, "what was written came back changed")]
    newest = await _newest_files(settings)
    gone = [key for key in newest if not await holds(store, key)]
    if gone:
        advice = f"{len(gone)} of the newest {len(newest)} are gone: see docs/recipes/disaster-recovery.md"
        return [Finding("files", Verdict.WRONG, advice)]
    return [Finding("files", Verdict.FINE, f"written, read and deleted; the newest {len(newest)} are there")]


async def _newest_files(settings: Settings) -> list[str]:
    if not settings.database_url.get_secret_value() and not embedded_are_served(settings):
        return []
    async with attached_database(settings) as database:
        with acting_as(system()):
            newest = await CorpusService(database).list_documents(DocumentFilter(), NEWEST_FILES, "")
    return [document.blob_key for document in newest.items if document.blob_key]


async def redis(settings: Settings) -> list[Finding]:
    """Ask Redis for a sign of life."""
    url = settings.redis_url.get_secret_value()
    if not url:
        return [Finding("Redis", Verdict.UNUSED, "limits are counted in each process")]
    if await redis_cache.answers(url):
        return [Finding("Redis", Verdict.FINE, "answers")]
    return [Finding("Redis", Verdict.DOUBTFUL, "does not answer: every process counts limits for itself meanwhile")]
