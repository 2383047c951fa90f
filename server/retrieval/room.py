"""The furnished retrieval room: all that app.py needs of it, put together from plain values and ports."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from server.cache.caches import Caches
from server.caller import Tier
from server.database.pool import Database
from server.models.port import ProviderState, TutorModel
from server.retrieval.answering import AnswerService
from server.retrieval.conversations import ConversationService
from server.retrieval.generation import Means
from server.retrieval.query import Understanding, counterparts
from server.retrieval.recovery import Recovery
from server.retrieval.search import Library, LiveIndex, RetrievalService
from server.retrieval.searching import SearchService
from server.retrieval.settlement import Settlement
from server.retrieval.store import AnswerStore, ConversationStore
from server.telemetry.metrics import record_cache
from server.vectors.port import VectorStore
from server.wallet.service import WalletService

LEASE_SECONDS = 12.0
"""An answer whose process wrote nothing for this long is taken for dead; a live one writes three times in it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The settings of the room.

    `results` are the most passages per tier, `open_answers` the unfinished answers of a user, `running_answers` those
    of this process. `answer_seconds` bounds one answer and must stay below the reservations' time to live.
    """

    results: Mapping[Tier, int]
    open_answers: int = 3
    running_answers: int = 2_000
    answer_seconds: float = 240.0
    lease_seconds: float = LEASE_SECONDS


@dataclass(frozen=True, slots=True)
class RetrievalRoom:
    """What others use: `search` for passages (by quizzes), `searches`, `answers` and `conversations` for students,
    `recovery` for the schedule and the start of the server."""

    search: RetrievalService
    searches: SearchService
    answers: AnswerService
    conversations: ConversationService
    recovery: Recovery


def furnish(
    database: Database,
    wallet: WalletService,
    library: Library,
    vectors: VectorStore,
    live: Callable[[], Awaitable[LiveIndex | None]],
    model: TutorModel,
    terms: Terms,
    *,
    quoting: TutorModel | None = None,
    breakers: Callable[[], Sequence[ProviderState]] = tuple,
    caches: Caches | None = None,
) -> RetrievalRoom:
    """Put the room together.

    `live` names the index to search and its embedder, None before the first document. `quoting` answers with
    quotations, free of charge, when `model` cannot. `breakers` tells the states of the model chain for traces.
    `caches` keep what models said; by default in this process.
    """
    process_id, caches = uuid4(), caches or Caches(on_event=record_cache)
    store = AnswerStore()
    means = Means(
        database=database,
        store=store,
        wallet=wallet,
        settlement=Settlement(database, store, wallet, process_id),
        model=model,
        quoting=quoting,
        bridge=counterparts,
        breakers=breakers,
        process_id=process_id,
        lease_seconds=terms.lease_seconds,
        answer_seconds=terms.answer_seconds,
    )
    search = RetrievalService(library, vectors, model, Understanding(model, caches), live, terms.results, caches)
    recovery = Recovery(means)
    answers = AnswerService(means, search, recovery, open_limit=terms.open_answers, running_limit=terms.running_answers)
    conversations = ConversationService(database, ConversationStore(), answers.cancel)
    return RetrievalRoom(search, SearchService(search, database), answers, conversations, recovery)
