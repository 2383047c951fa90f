"""Every room, furnished from settings, stores and models; in the order in which they need each other."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from server.admin.audit import Audit
from server.app import terms
from server.app.library import Library, open_library, searched
from server.app.models import Models
from server.app.stores import Stores
from server.auth import room as auth
from server.auth.directory import AccessChange
from server.auth.directory import Audit as AuditAccess
from server.cache.caches import Caches
from server.config import Settings
from server.corpus.service import CorpusService
from server.database.once import Once
from server.database.pool import Database
from server.ingestion.extraction.worker import Extraction
from server.ingestion.pipeline import Pipeline
from server.ingestion.pipeline import Stores as PipelineStores
from server.ingestion.removal import Removal
from server.ingestion.scratch import Scratch
from server.ingestion.service import IngestionService
from server.ingestion.sources.reach import Reach
from server.ingestion.sources.service import SourceService
from server.ingestion.sources.sync import SourceSync
from server.ingestion.uploads import Uploads
from server.jobs.queue import JobQueue
from server.quiz.making import QuizMaker
from server.quiz.service import QuizService
from server.retrieval import room as retrieval
from server.retrieval.usage import charges_match_usage
from server.telemetry import metrics
from server.wallet.credits import CreditService
from server.wallet.meters import Meters
from server.wallet.service import WalletService
from server.wallet.store import Connection

FOREIGN_CHECKS = (charges_match_usage,)
"""What other rooms have recorded, compared with the wallet's books by every reconciliation."""
INGEST = "ingest"
"""The queue's name for the run of an ingestion job."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """All services of one process."""

    once: Once
    caches: Caches
    audit: Audit
    queue: JobQueue
    wallet: WalletService
    credit: CreditService
    auth: auth.AuthRoom
    corpus: CorpusService
    library: Library
    uploads: Uploads
    ingestion: IngestionService
    sources: SourceService
    source_sync: SourceSync
    pipeline: Pipeline
    removal: Removal
    scratch: Scratch
    retrieval: retrieval.RetrievalRoom
    quizzes: QuizService
    quiz_maker: QuizMaker


async def furnish(settings: Settings, stores: Stores, models: Models) -> Rooms:
    """Build every room and make sure that the index to search exists."""
    database, once, queue = stores.database, Once(stores.database), JobQueue(stores.database)
    audit = Audit(database)
    wallet = _wallet(settings, database)
    corpus = CorpusService(database, on_cache_event=metrics.record_cache)
    library = await open_library(stores, models)
    caches = Caches(settings.redis_url.get_secret_value(), metrics.record_cache)
    answering = retrieval.furnish(
        database,
        wallet,
        corpus,
        stores.vectors,
        searched(library.spaces),
        models.tutor,
        terms.retrieval_terms(settings),
        quoting=models.quoting,
        breakers=models.breakers,
        caches=caches,
    )
    maker = QuizMaker(
        database,
        wallet,
        answering.search,
        corpus,
        models.tutor,
        quoting=models.quoting,
        open_limit=settings.limits_open_answers,
    )
    quizzes = QuizService(database, once, maker)
    removal, enqueue = Removal(database, corpus, stores.blobs, stores.vectors), _Enqueue(queue)
    scratch = Scratch(settings.data_dir / "scratch")
    ingestion = IngestionService(database, once, corpus, removal, enqueue)
    extraction = Extraction(terms.reading_limits(settings), settings.worker_concurrency)
    reach = Reach(settings.source_hosts)
    return Rooms(
        once=once,
        caches=caches,
        audit=audit,
        queue=queue,
        wallet=wallet,
        credit=_credit(settings, stores, once, audit),
        auth=auth.furnish(
            database,
            once,
            terms.auth_terms(settings),
            wallet.open_wallet,
            _audited(audit),
            erasers=(answering.conversations.erase, quizzes.erase),
        ),
        corpus=corpus,
        library=library,
        uploads=Uploads(database, once, corpus, stores.blobs, settings.limits_upload_bytes),
        ingestion=ingestion,
        sources=SourceService(database, once, audit.record, reach),
        source_sync=SourceSync(database, corpus, stores.blobs, ingestion, extraction, reach=reach, scratch=scratch),
        pipeline=Pipeline(
            PipelineStores(database, corpus, library.refs, stores.blobs, stores.vectors),
            extraction,
            library.spaces.written,
            removal,
            enqueue,
            terms.pipeline_settings(settings, scratch),
        ),
        removal=removal,
        scratch=scratch,
        retrieval=answering,
        quizzes=quizzes,
        quiz_maker=maker,
    )


def _wallet(settings: Settings, database: Database) -> WalletService:
    meters = Meters(
        metrics.record_wallet_reservation,
        metrics.set_active_reservations,
        metrics.set_stale_reservations,
    )
    return WalletService(
        database,
        reservation_ttl_seconds=settings.reservation_ttl_seconds,
        meters=meters,
        foreign_checks=FOREIGN_CHECKS,
    )


def _credit(settings: Settings, stores: Stores, once: Once, audit: Audit) -> CreditService:
    readers = terms.top_up_readers(settings)
    return CreditService(stores.database, once, audit=audit.record, voucher_key=stores.secret, callbacks=readers)


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
