"""Every room, furnished from settings, stores and models; in the order in which they need each other."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from server.admin.audit import Audit
from server.app.models import Models
from server.app.startup import StartupError
from server.app.stores import Stores
from server.auth import issuers
from server.auth import room as auth
from server.auth.directory import AccessChange
from server.auth.issuers import Issuer
from server.caller import Role, Tier
from server.config import IssuerSettings, Settings
from server.corpus.service import CorpusService
from server.corpus.vectors import VectorRefs
from server.database.once import Once
from server.ingestion.chunking import ChunkSize
from server.ingestion.extraction.page import Limits as ReadingLimits
from server.ingestion.extraction.worker import Extraction
from server.ingestion.pipeline import Pipeline
from server.ingestion.pipeline import Settings as PipelineSettings
from server.ingestion.pipeline import Stores as PipelineStores
from server.ingestion.removal import Removal
from server.ingestion.service import IngestionService
from server.ingestion.uploads import Uploads
from server.jobs.queue import JobQueue
from server.quiz.making import QuizMaker
from server.quiz.service import QuizService
from server.retrieval import room as retrieval
from server.retrieval.search import LiveIndex
from server.telemetry import metrics
from server.text.language import Language
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
    credits: CreditService
    auth: auth.AuthRoom
    corpus: CorpusService
    refs: VectorRefs
    uploads: Uploads
    ingestion: IngestionService
    pipeline: Pipeline
    retrieval: retrieval.RetrievalRoom
    quizzes: QuizService
    quiz_maker: QuizMaker
    live: LiveIndex


async def furnish(settings: Settings, stores: Stores, models: Models) -> Rooms:
    """Build every room and make sure that the index to search exists."""
    database, once, queue = stores.database, Once(stores.database), JobQueue(stores.database)
    audit = Audit(database)
    wallet = WalletService(
        database,
        reservation_ttl_seconds=settings.reservation_ttl_seconds,
        meters=Meters(
            metrics.record_wallet_reservation,
            metrics.set_active_reservations,
            metrics.set_stale_reservations,
            metrics.set_wallet_discrepancies,
        ),
    )
    credits = CreditService(database, once, audit=audit.record, voucher_key=stores.secret)
    corpus, refs = CorpusService(database), VectorRefs(database)
    live = await _live_index(stores, models)
    answering = retrieval.furnish(
        database,
        once,
        wallet,
        corpus,
        stores.vectors,
        _always(live),
        models.tutor,
        retrieval.Terms(
            results={
                Tier.FREE: settings.results_free,
                Tier.STANDARD: settings.results_standard,
                Tier.PREMIUM: settings.results_premium,
            },
            open_answers=settings.limits_open_answers,
            answer_seconds=min(240.0, settings.reservation_ttl_seconds * 0.8),
        ),
        quoting=models.local,
        breakers=models.breakers,
    )
    maker = QuizMaker(
        database,
        wallet,
        answering.search,
        corpus,
        models.tutor,
        open_limit=settings.limits_open_answers,
    )
    quizzes = QuizService(database, once, maker)
    removal = Removal(database, corpus, stores.blobs, stores.vectors)
    enqueue = _enqueue(queue)
    return Rooms(
        once=once,
        audit=audit,
        queue=queue,
        wallet=wallet,
        credits=credits,
        auth=auth.furnish(
            database,
            once,
            _auth_terms(settings),
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
            Extraction(_reading_limits(settings), settings.worker_concurrency),
            models.embedder,
            removal,
            enqueue,
            PipelineSettings(_chunk_sizes(settings), settings.data_dir / "scratch"),
        ),
        retrieval=answering,
        quizzes=quizzes,
        quiz_maker=maker,
        live=live,
    )


async def _live_index(stores: Stores, models: Models) -> LiveIndex:
    """Return the index of the embedder in use, made and made live when it is new.

    Raises StartupError when searches run on vectors of another model: mixing the two would find nothing sensible.
    """
    name = index_name(models.embedder.name)
    await stores.vectors.create_index(name, models.embedder.dimensions)
    live = await stores.vectors.live()
    if live not in (None, name) and await stores.vectors.count(live):
        raise StartupError(
            f"BACMR_EMBEDDING_MODEL: the library is indexed as {live}, but the settings name {models.embedder.name}; "
            "set the former model again, or reindex."
        )
    if live != name:
        await stores.vectors.activate(name)
    return LiveIndex(name, models.embedder)


def index_name(embedder: str) -> str:
    """Return the index that holds an embedder's vectors: another model or version means another index."""
    plain = "".join(sign if sign.isalnum() else "_" for sign in embedder)
    return f"chunks__{plain}"


def _always(live: LiveIndex) -> Callable[[], Awaitable[LiveIndex]]:
    async def answer() -> LiveIndex:
        return live

    return answer


def _enqueue(queue: JobQueue) -> Callable[..., Awaitable[object]]:
    async def enqueue(connection: Connection, job_id: UUID, *, scheduled_at: datetime | None = None) -> object:
        return await queue.enqueue(connection, INGEST, {"job_id": str(job_id)}, scheduled_at=scheduled_at)

    return enqueue


def _audited(audit: Audit) -> auth.Audit:
    async def record(connection: Connection, change: AccessChange) -> None:
        await audit.record(connection, change.action, f"user/{change.user_id}", change.before, change.after)

    return record


def _auth_terms(settings: Settings) -> auth.Terms:
    return auth.Terms(
        keys_dir=settings.jwt_keys_dir or settings.data_dir / "keys",
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        access_ttl_seconds=settings.jwt_access_ttl_seconds,
        refresh_ttl_seconds=settings.jwt_refresh_ttl_seconds,
        attempts_max=settings.limits_sign_in_per_15_minutes,
        welcome_tokens=settings.welcome_tokens,
        external_issuers=[_issuer(issuer) for issuer in settings.jwt_external_issuers],
    )


def _issuer(issuer: IssuerSettings) -> Issuer:
    roles = [Role(role) for role in issuer.roles]
    secret = issuer.hs256_secret.get_secret_value()
    if secret:
        return issuers.with_secret(issuer.issuer, issuer.audience, secret, roles)
    return issuers.with_keys(issuer.issuer, issuer.audience, issuer.jwks_url, roles)


def _chunk_sizes(settings: Settings) -> dict[Language, ChunkSize]:
    french = ChunkSize(settings.chunk_tokens_french, settings.chunk_overlap_french)
    arabic = ChunkSize(settings.chunk_tokens_arabic, settings.chunk_overlap_arabic)
    return {
        Language.FRENCH: french,
        Language.ARABIC: arabic,
        Language.HASSANIYA: arabic,
        Language.OTHER: french,
    }


def _reading_limits(settings: Settings) -> ReadingLimits:
    return ReadingLimits(
        timeout_seconds=settings.extraction_timeout_seconds,
        memory_bytes=settings.extraction_memory_bytes,
        pages=settings.extraction_max_pages,
    )

