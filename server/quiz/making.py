"""Making a quiz: a task that the server owns, events that are stored before anybody sees them, one exact charge.

The stream a caller reads is a window on the stored events; the same request_id opens the same window again.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from uuid import UUID, uuid4

import structlog

from server.caller import Caller, acting_as, current, detached, system
from server.corpus.passage import CorpusFilter
from server.corpus.service import CorpusService
from server.database.once import fingerprint
from server.database.pool import Connection, Database
from server.models.port import (
    DraftQuestion,
    Finished,
    ProviderFailure,
    QuestionKind,
    QuizTask,
    Source,
    TutorModel,
)
from server.quiz.drafting import Use, judge, question_of
from server.quiz.events import Completed, Event, Progress, Started, StepDegraded
from server.quiz.pricing import Quote, quote
from server.quiz.question import Difficulty
from server.quiz.sources import MAX_SOURCES, QuizSource, fit, of_chunk, of_passage
from server.quiz.store import NewQuiz, QuizStore
from server.quiz.validation import Dropped, signature
from server.quiz.writer import Bell, QuizWriter, beating, rung
from server.refusal import (
    ModelUnavailable,
    NoPassages,
    NotSignedIn,
    QuotaExceeded,
    Refusal,
    RequestIdReused,
    ShuttingDown,
    StoreUnavailable,
)
from server.retrieval.passage import Step
from server.retrieval.search import RetrievalService
from server.retrieval.trace import Trace
from server.retrieval.usage import record_use
from server.text.detection import detect
from server.text.fold import one_line
from server.text.language import Language
from server.wallet.service import Hold, WalletService

log = structlog.get_logger(__name__)

PURPOSE = "quiz"
ABANDONED_SECONDS = 60.0
"""A maker that has been silent for this long is dead."""
POLL_SECONDS = 0.5
"""How often a reader looks for events that another process stores."""
DRAFTS_PER_QUESTION = 2
"""Drafts asked of the model per question wanted, since some do not hold."""
QUOTED = "No model answered; the questions are made of the pages' own sentences and the model is not charged."

Drafted = tuple[DraftQuestion | Finished, TutorModel]
"""What a model drafts, and which one it is."""

_ENDINGS: dict[str, type[Refusal]] = {kind.reason: kind for kind in (NoPassages, ModelUnavailable, StoreUnavailable)}
"""Refusals that end a quiz after it began; every reader of its stream gets the same one."""


@dataclass(frozen=True, slots=True)
class QuizRequest:
    """What a quiz shall be about. Without a topic, `where.document_ids` or `chunk_ids` say it."""

    topic: str
    where: CorpusFilter
    chunk_ids: tuple[str, ...]
    question_count: int
    kinds: tuple[QuestionKind, ...]
    difficulty: Difficulty
    language: Language | None
    request_id: UUID


class QuizMaker:
    """Makes quizzes and lets readers follow them."""

    def __init__(
        self,
        database: Database,
        wallet: WalletService,
        retrieval: RetrievalService,
        corpus: CorpusService,
        model: TutorModel,
        *,
        quoting: TutorModel | None = None,
        open_limit: int,
    ) -> None:
        """`quoting` drafts free of charge when `model` cannot; `open_limit` bounds a person's unfinished quizzes."""
        self._database = database
        self._store = QuizStore()
        self._wallet = wallet
        self._retrieval = retrieval
        self._corpus = corpus
        self._model = model
        self._quoting = quoting
        self._open_limit = open_limit
        self._bells: dict[UUID, Bell] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def generate(self, request: QuizRequest) -> AsyncIterator[tuple[int, Event]]:
        """Make a quiz, or find the one this request_id made, and stream its events with their sequences."""
        quiz_id = await self._open(request)
        bell, sequence = self._bells.get(quiz_id), 0
        while True:
            ticket = bell.ticket() if bell else None
            if bell and bell.refused:
                raise bell.refused
            async with self._database.transaction() as connection:
                events = await self._store.events(connection, quiz_id, sequence)
            for sequence, event in events:
                if isinstance(event, Completed) and event.refusal:
                    raise _ENDINGS.get(event.refusal, ModelUnavailable)
                yield sequence, event
                if isinstance(event, Completed):
                    return
            await rung(ticket, POLL_SECONDS)

    async def recover(self) -> int:
        """Close quizzes whose process died; the expiry of the hold settles what was delivered. Returns how many."""
        with acting_as(system()):
            async with self._database.transaction() as connection:
                abandoned = await self._store.abandoned(connection, ABANDONED_SECONDS)
                for quiz_id in abandoned:
                    await self._store.complete(connection, quiz_id)
                    await self._store.append(connection, quiz_id, Completed(0, None, "", ModelUnavailable.reason))
        return len(abandoned)

    async def close(self) -> None:
        """Take no new quizzes and wait for those being made."""
        self._closing = True
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _open(self, request: QuizRequest) -> UUID:
        """Return the quiz of this request; start making it when it is new."""
        caller = current()
        if caller.user_id is None:
            raise NotSignedIn
        if self._closing:
            raise ShuttingDown
        new = NewQuiz(uuid4(), caller.user_id, request.request_id, fingerprint(request), request.difficulty)
        async with self._database.transaction() as connection:
            opened = await self._store.open(connection, new, self._open_limit)
        if opened is None:
            raise QuotaExceeded(limit="unfinished_quizzes", allowed=self._open_limit)
        quiz_id, request_hash = opened
        if request_hash != new.request_hash:
            raise RequestIdReused
        if quiz_id == new.id:
            self._start(caller, new, request)
        return quiz_id

    def _start(self, caller: Caller, new: NewQuiz, request: QuizRequest) -> None:
        self._bells[new.id] = bell = Bell()
        writer = QuizWriter(self._database, self._store, new, bell, Trace(request.topic))
        with acting_as(detached(caller)):
            task = asyncio.create_task(self._make(writer, new, request), name=f"quiz-{new.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._bells.pop(new.id).ring())

    async def _make(self, writer: QuizWriter, new: NewQuiz, request: QuizRequest) -> None:
        """Run one quiz to its end, whatever happens to its readers."""
        try:
            await self._make_and_settle(writer, new, request)
        except Exception:
            log.exception("quiz_failed", quiz_id=str(new.id))
            await writer.finish(Completed(0, None, "", ModelUnavailable.reason))

    async def _make_and_settle(self, writer: QuizWriter, new: NewQuiz, request: QuizRequest) -> None:
        price = quote(request.question_count)
        ended = Completed(0, None, "", ModelUnavailable.reason)
        hold: Hold | None = None
        try:
            async with AsyncExitStack() as holding:
                with writer.trace.timed("price"):
                    hold = await holding.enter_async_context(
                        self._wallet.hold(new.owner_id, price.estimate_tokens, PURPOSE, request.request_id)
                    )
                writer.trace.held(price.max_charge_tokens, str(hold.reservation.id))
                await writer.emit(Started(new.id, hold.reservation.id, price.max_charge_tokens))
                ended = await self._write(writer, request, price, hold)
                with writer.trace.timed("receipt"):
                    await holding.aclose()
        except Refusal as refusal:
            if not writer.started:
                await writer.forget(refusal)
                return
            ended = Completed(0, None, "", refusal.reason)
        except ProviderFailure:
            log.warning("quiz_model_failed", quiz_id=str(new.id))
        receipt = hold.receipt if hold else None
        await writer.finish(Completed(ended.dropped_questions, receipt, ended.model, ended.refusal))

    async def _write(self, writer: QuizWriter, request: QuizRequest, price: Quote, hold: Hold) -> Completed:
        await writer.emit(Progress("searching"))
        with writer.trace.timed("search"):
            sources = fit(await self._sources(writer, request), price.context_tokens)
        language = request.language or detect(request.topic or sources[0].text).language
        if language is Language.OTHER:
            language = sources[0].language
        title = one_line(request.topic) or sources[0].document_title
        await writer.describe(title, language, request.where.subject or sources[0].subject)
        await writer.emit(Progress("writing"))
        task = QuizTask(
            topic=title,
            sources=tuple(Source(n, s.text, s.document_title, s.page) for n, s in enumerate(sources, 1)),
            language=language,
            question_count=request.question_count * DRAFTS_PER_QUESTION,
            kinds=request.kinds or tuple(QuestionKind),
            difficulty=request.difficulty.value,
            max_tokens=price.answer_tokens,
            seed=request.request_id.int % 2**31,
        )
        return await self._ask(writer, task, sources, request.question_count, price, hold)

    async def _ask(
        self, writer: QuizWriter, task: QuizTask, sources: list[QuizSource], wanted: int, price: Quote, hold: Hold
    ) -> Completed:
        """Draft, judge and store questions until enough hold; charge the prompt and all that was drafted."""
        with writer.trace.timed("prompt"):
            use = Use(self._model.name, self._model.prompt_tokens(task))
        writer.trace.prompted(sources, use.prompt_tokens, task.language.value)
        try:
            with writer.trace.timed("model_calls"):
                dropped = await self._draft(writer, task, sources, wanted, price, hold, use)
            async with self._database.transaction() as connection:
                await self._used(connection, hold, use, price.owed(use.tokens))
        except BaseException:
            # However it stopped, the provider did its part; what is owed for it is what was delivered.
            async with self._database.transaction() as connection:
                await self._used(connection, hold, use, use.delivered_tokens)
            raise
        hold.spend(price.owed(use.tokens))
        return Completed(dropped, None, use.model)

    async def _draft(
        self,
        writer: QuizWriter,
        task: QuizTask,
        sources: list[QuizSource],
        wanted: int,
        price: Quote,
        hold: Hold,
        use: Use,
    ) -> int:
        """Store the drafts that hold until there are enough; returns how many did not. Raises NoPassages for none."""
        asked: set[str] = set()
        dropped: Counter[str] = Counter()
        async with aclosing(self._drafts(writer, task, use)) as drafts:
            while drafted := await beating(anext(drafts, None), writer.beat):
                event, drafting = drafted
                use.add(event, drafting.name, free=drafting is self._quoting)
                if isinstance(event, Finished):
                    break
                verdict = judge(event, sources, asked)
                if isinstance(verdict, Dropped):
                    dropped[verdict.reason] += 1
                    continue
                asked.add(signature(event))
                owed = price.owed(use.tokens)
                await writer.ask(
                    question_of(verdict, len(asked), sources[event.source_number - 1], task.topic),
                    partial(self._delivered, hold=hold, use=use, owed=owed),
                )
                use.delivered_tokens = owed
                if len(asked) == wanted:
                    break
        writer.trace.called(use.model, use.usage)
        writer.trace.drafted(len(asked), dropped)
        if not asked:
            raise NoPassages("The pages found do not carry a question; choose another topic or other filters.")
        return dropped.total()

    async def _drafts(self, writer: QuizWriter, task: QuizTask, use: Use) -> AsyncGenerator[Drafted]:
        """Yield what the model drafts; what the quoting one does when the model fails before its first draft."""
        try:
            async with aclosing(self._model.quiz(task)) as drafts:
                async for draft in drafts:
                    yield draft, self._model
            return
        except ProviderFailure as failure:
            writer.trace.called(self._model.name, use.usage, str(failure))
            if use.usage is not None or self._quoting is None:
                raise
        await writer.emit(StepDegraded(Step.MODEL.value, QUOTED))
        async with aclosing(self._quoting.quiz(task)) as drafts:
            async for draft in drafts:
                yield draft, self._quoting

    async def _delivered(self, connection: Connection, *, hold: Hold, use: Use, owed: int) -> None:
        await self._wallet.delivered(connection, hold.reservation.id, owed)
        await self._used(connection, hold, use, owed)

    async def _used(self, connection: Connection, hold: Hold, use: Use, owed: int) -> None:
        """Record what was used before it is charged, so that no charge stands without its use."""
        await record_use(
            connection,
            hold.reservation.id,
            hold.reservation.user_id,
            PURPOSE,
            model=use.model,
            used_tokens=use.tokens,
            owed_tokens=owed,
        )

    async def _sources(self, writer: QuizWriter, request: QuizRequest) -> Sequence[QuizSource]:
        if request.chunk_ids:
            chunks = await self._corpus.chunks(request.chunk_ids)
            found = [of_chunk(chunks[chunk_id]) for chunk_id in request.chunk_ids if chunk_id in chunks]
            writer.trace.picked("asked for", len(found))
        elif request.topic.strip():
            result = await beating(self._retrieval.search(request.topic, request.where, MAX_SOURCES), writer.beat)
            writer.trace.found(result, request.topic)
            for step in result.degraded:
                await writer.emit(StepDegraded(step.step.value, step.reason))
            found = [of_passage(passage, request.where.subject) for passage in result.passages]
        else:
            found = [of_chunk(chunk) for chunk in await self._corpus.sample(request.where, MAX_SOURCES)]
            writer.trace.picked("at random", len(found))
        if not found:
            raise NoPassages
        return found
