"""Every room, furnished from settings, stores and models; in the order in which they need each other."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from server.admin.audit import Audit
from server.app import terms
from server.app.models import Models
from server.app.startup import StartupError
from server.app.stores import Stores
from server.auth import room as auth
from server.auth.directory import AccessChange
from server.auth.directory import Audit as AuditAccess
from server.config import Settings
from server.corpus.service import CorpusService
from server.corpus.vectors import VectorRefs
from server.database.once import Once
from server.database.pool import Database
from server.ingestion.extraction.worker import Extraction
from server.ingestion.pipeline import Pipeline
from server.ingestion.pipeline import Stores as PipelineStores
from server.ingestion.removal import Removal
from server.ingestion.scratch import Scratch
from server.ingestion.service import IngestionService
from server.ingestion.uploads import Uploads
from server.jobs.queue import JobQueue
from server.models.local.embedder import LocalEmbedder
from server.quiz.making import QuizMaker
from server.quiz.service import QuizService
from server.retrieval import room as retrieval
from server.retrieval.search import LiveIndex
from server.telemetry import metrics
from server.vectors.filters import index_name
from server.wallet.credits import CreditService
from server.wallet.meters import Meters
from server.wallet.service import WalletService
from server.wallet.store import Connection

INGEST = "ingest"
"""The queue's name for the run of an ingestion job."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """All services of one process."""

    once: Once
    audit: Audit
    queue: JobQueue
    wallet: WalletService
    credit: CreditService
    auth: auth.AuthRoom
    corpus: CorpusService
    refs: VectorRefs
    uploads: Uploads
    ingestion: IngestionService
    pipeline: Pipeline
    removal: Removal
    scratch: Scratch
    retrieval: retrieval.RetrievalRoom
    quizzes: QuizService
    quiz_maker: QuizMaker
    live: LiveIndex


async def furnish(settings: Settings, stores: Stores, models: Models) -> Rooms:
    """Build every room and make sure that the index to search exists."""
    database, once, queue = stores.database, Once(stores.database), JobQueue(stores.database)
    audit = Audit(database)
    wallet = _wallet(settings, database)
    corpus = CorpusService(database, on_cache_event=metrics.record_cache)
    live = await _live_index(stores, models)
    answering = retrieval.furnish(
        database,
        wallet,
        corpus,
        stores.vectors,
        _always(live),
        models.tutor,
        terms.retrieval_terms(settings),
        quoting=models.quoting,
        breakers=models.breakers,
    )
    maker = QuizMaker(database, wallet, answering.search, corpus, models.tutor, open_limit=settings.limits_open_answers)
    quizzes = QuizService(database, once, maker)
    removal, enqueue = Removal(database, corpus, stores.blobs, stores.vectors), _Enqueue(queue)
    scratch = Scratch(settings.data_dir / "scratch")
    refs = VectorRefs(database)
    return Rooms(
        once=once,
        audit=audit,
        queue=queue,
        wallet=wallet,
        credit=CreditService(database, once, audit=audit.record, voucher_key=stores.secret),
        auth=auth.furnish(
            database,
            once,
            terms.auth_terms(settings),
            wallet.open_wallet,
            _audited(audit),
            erasers=(answering.conversations.erase, quizzes.erase),
        ),
        corpus=corpus,
        refs=refs,
        uploads=Uploads(database, once, corpus, stores.blobs, settings.limits_upload_bytes),
        ingestion=IngestionService(database, once, corpus, removal, enqueue),
        pipeline=Pipeline(
            PipelineStores(database, corpus, refs, stores.blobs, stores.vectors),
            Extraction(terms.reading_limits(settings), settings.worker_concurrency),
            models.embedder,
            removal,
            enqueue,
            terms.pipeline_settings(settings, scratch),
        ),
        removal=removal,
        scratch=scratch,
        retrieval=answering,
        quizzes=quizzes,
        quiz_maker=maker,
        live=live,
    )


def _wallet(settings: Settings, database: Database) -> WalletService:
    meters = Meters(
        metrics.record_wallet_reservation,
        metrics.set_active_reservations,
        metrics.set_stale_reservations,
        metrics.set_wallet_discrepancies,
    )
    return WalletService(database, reservation_ttl_seconds=settings.reservation_ttl_seconds, meters=meters)


async def _live_index(stores: Stores, models: Models) -> LiveIndex:
    """Return the index of the embedder in use, made and made live when it is new.

    Raises StartupError when searches run on vectors of another model: mixing the two would find nothing sensible.
    """
    name = index_name(models.embedder.name, models.embedder.dimensions)
    await stores.vectors.create_index(name, models.embedder.dimensions)
    live = await stores.vectors.live()
    if live and live != name and await stores.vectors.count(live):
        raise StartupError(
            f"BACMR_EMBEDDING_MODEL: the library is indexed as {live}, but the settings name {models.embedder.name}; "
            "set the former model again, or reindex."
        )
    if live != name:
        await stores.vectors.activate(name)
    return LiveIndex(name, models.embedder, semantic=not isinstance(models.embedder, LocalEmbedder))


def _always(live: LiveIndex) -> Callable[[], Awaitable[LiveIndex]]:
    async def answer() -> LiveIndex:
        return live

    return answer


class _Enqueue:
    """Puts runs of ingestion jobs into the queue."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue

    async def __call__(self, connection: Connection, job_id: UUID, *, scheduled_at: datetime | None = None) -> object:
        return await self._queue.enqueue(connection, INGEST, {"job_id": str(job_id)}, scheduled_at=scheduled_at)


def _audited(audit: Audit) -> AuditAccess:
    async def record(connection: Connection, change: AccessChange) -> None:
        await audit.record(connection, change.action, f"user/{change.user_id}", change.before, change.after)

    return record
