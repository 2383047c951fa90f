"""Answers as callers see them: asked, followed, stopped. The server owns their making; a stream only watches it."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import UUID, uuid4

import structlog

from server import caller
from server.caller import Caller
from server.database.once import Once, fingerprint
from server.database.pool import Connection
from server.models.port import AnswerTask, ProviderFailure, Turn
from server.refusal import (
    InsufficientBalance,
    NotFound,
    NotSignedIn,
    QuotaExceeded,
    RateLimited,
    Refusal,
    RequestIdReused,
    ShuttingDown,
)
from server.retrieval import pricing, prompting
from server.retrieval.answer import ENDING_REFUSALS, Opening, Question, State
from server.retrieval.events import Ending, Event, Progress, Stage, Started
from server.retrieval.following import Following
from server.retrieval.generation import Commission, Finding, Generation, Means
from server.retrieval.passage import Degraded, Step
from server.retrieval.query import detect_next
from server.retrieval.recovery import Recovery
from server.retrieval.search import RetrievalService
from server.retrieval.store import Begun
from server.retrieval.trace import Trace
from server.text.language import Language

log = structlog.get_logger(__name__)

METHOD = "RetrievalService.Ask"
CANCEL_SECONDS = 10.0
"""How long a cancel waits for the answer to be settled."""
STANDALONE_SECONDS = 6.0
HEAD_START_TURNS = 3
"""Turns of the event loop in which a search sends its queries; an answer waits for it rather than for its opening."""
CONTEXT_LOST = "The question could not be tied to the conversation; it was searched together with the one before."

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Prelude:
    """What is known before anything is spent."""

    language: Language
    frame: AnswerTask
    frame_tokens: int


class AnswerService:
    """Asks, follows and stops answers of the calling user; other people's are NotFound."""

    def __init__(
        self,
        means: Means,
        retrieval: RetrievalService,
        recovery: Recovery,
        *,
        open_limit: int,
        running_limit: int,
    ) -> None:
        """`open_limit` bounds a user's unfinished answers, `running_limit` those this process makes."""
        self._means = means
        self._retrieval = retrieval
        self._once = Once(means.database)
        self._following = Following(means.database, means.store, recovery)
        self._open_limit = open_limit
        self._running_limit = running_limit
        self._running: dict[UUID, Generation] = {}
        self._runs: dict[UUID, asyncio.Task[None]] = {}
        self._asking: dict[object, asyncio.Task[UUID]] = {}
        self._background: set[asyncio.Task[Any]] = set()
        self._closing = False

    @property
    def running(self) -> int:
        """Return how many answers this process is making."""
        return len(self._running)

    async def estimate(self, question: Question) -> pricing.Estimate:
        """Price a question. `max_tokens` holds for the best plan, so topping up meanwhile cannot pass it."""
        prelude = self._prelude(question, await self._history(question))
        available = (await self._means.wallet.balance(_user_id())).available_tokens
        quote = pricing.choose(prelude.frame_tokens, available)
        plan = quote.plan if quote else pricing.PLANS[-1]
        try:
            found = await self._retrieval.search(question.text, question.where)
            sizes = [passage.token_count + prompting.SOURCE_MARKUP_TOKENS for passage in found.passages]
            places = pricing.fitting(sizes, plan.context_tokens, plan.passages)
            context = min(plan.context_tokens, sum(sizes[place] for place in places))
        except Refusal:
            # A price can be told without the passages; whether there are any is for the question itself to find.
            context = plan.context_tokens
        room_for_history = pricing.HISTORY_TOKENS if question.conversation_id else 0
        return pricing.Estimate(
            min_tokens=prelude.frame_tokens + min(context, prompting.LEAST_SOURCE_TOKENS),
            likely_tokens=prelude.frame_tokens + context + plan.likely_answer_tokens,
            max_tokens=pricing.quote(prelude.frame_tokens + room_for_history, pricing.FULL).max_charge_tokens,
            affordable=quote is not None,
            cheaper_plan=quote is not None and quote.plan is not pricing.FULL,
        )

    async def ask(self, question: Question) -> UUID:
        """Begin an answer and return its id; the same request again returns the same one.

        Raises InsufficientBalance, QuotaExceeded (too many unfinished answers), NotFound (the conversation) and
        RequestIdReused. Once this has begun, a caller that hangs up does not stop it.
        """
        if self._closing:
            raise ShuttingDown(retry_after_seconds=1.0)
        user_id = _user_id()
        request_hash = fingerprint((question.text, question.where, question.conversation_id, question.answer_language))
        key = (user_id, question.request_id, request_hash)
        if key not in self._asking:
            with caller.acting_as(caller.detached(caller.current())) as who:
                task = self._spawn(self._begin(question, request_hash, who))
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(self._asking[key])

    async def follow(self, answer_id: UUID, after_sequence: int = 0) -> AsyncGenerator[Event]:
        """Yield the events after a sequence, stored ones first, then live; the last is `Completed`.

        An answer that failed before its first word raises its refusal after that event. Raises NotFound, EventsGone
        (the stored events were forgotten) and Invalid (a sequence that was never sent).
        """
        user_id = _user_id()
        generation = self._running.get(answer_id)
        if generation is not None and generation.user_id != user_id:
            raise NotFound
        journal = generation.journal if generation else None
        async with aclosing(self._following.follow(user_id, answer_id, after_sequence, journal)) as events:
            async for event in events:
                yield event

    async def cancel(self, answer_id: UUID, request_id: UUID | None = None) -> None:
        """Stop an answer and wait until it is settled (at most 10 s); a completed one stays as it is.

        Raises NotFound, RequestIdReused.
        """
        user_id = _user_id()

        async def recorded(connection: Connection) -> None:
            if await self._means.store.standing(connection, user_id, answer_id) is None:
                raise NotFound

        if request_id is not None:
            await self._once.run("CancelAsk", request_id, answer_id, type(None), recorded)
        generation = self._running.get(answer_id)
        if generation is not None and generation.user_id == user_id:
            generation.stop(Ending.CANCELLED)
            await asyncio.wait([self._runs[answer_id]], timeout=CANCEL_SECONDS)
            return
        async with self._means.database.transaction() as connection:
            standing = await self._means.store.standing(connection, user_id, answer_id)
            if standing is None:
                raise NotFound
            await self._means.store.request_cancel(connection, user_id, answer_id)
        if standing.state is State.RUNNING:
            stored = self._following.follow(user_id, answer_id, standing.last_sequence, None)
            with suppress(TimeoutError, *ENDING_REFUSALS.values()):
                async with asyncio.timeout(CANCEL_SECONDS), aclosing(stored):
                    async for _ in stored:
                        pass

    async def close(self, grace_seconds: float) -> None:
        """Take no more questions, let running answers end within the grace, stop and settle the rest."""
        self._closing = True
        runs = set(self._runs.values())
        if runs:
            await asyncio.wait(runs, timeout=grace_seconds)
        for generation in list(self._running.values()):
            generation.stop(Ending.INTERRUPTED)
        await asyncio.gather(*self._runs.values(), *self._background, return_exceptions=True)

    # How an answer begins

    async def _begin(self, question: Question, request_hash: bytes, who: Caller) -> UUID:
        trace = Trace(question.text)
        full = len(self._running) >= self._running_limit
        # The opening finds what this request began before; here only where a model or room would be needed first.
        if full or question.conversation_id is not None:
            known_id = await self._known(question.request_id, request_hash)
            if known_id is not None:
                return known_id
        if full:
            raise RateLimited("The server makes as many answers as it can; try again soon.", retry_after_seconds=2.0)
        history = await self._history(question)
        finding = self._spawn(self._find(question, history, trace))
        try:
            for _ in range(HEAD_START_TURNS):
                await asyncio.sleep(0)
            prelude = self._prelude(question, history)
            with trace.timed("price"):
                quote, opening, begun = await self._open(question, request_hash, prelude)
        except BaseException:
            finding.cancel()
            raise
        if begun.known_id is not None:
            finding.cancel()
            return begun.known_id
        frame = replace(prelude.frame, small=quote.plan.small)
        trace.quoted(quote, str(opening.reservation_id))
        commission = Commission(
            opening, _opened(opening), quote, frame, prelude.frame_tokens, finding, who.request_id, trace
        )
        self._start(opening.answer_id, Generation(commission, self._means))
        return opening.answer_id

    async def _known(self, request_id: UUID, request_hash: bytes) -> UUID | None:
        async with self._means.database.session() as session:
            earlier = await self._means.store.earlier(session, _user_id(), request_id)
        if earlier is not None and earlier[1] != request_hash:
            raise RequestIdReused
        return earlier and earlier[0]

    async def _history(self, question: Question) -> tuple[Turn, ...]:
        if question.conversation_id is None:
            return ()
        async with self._means.database.transaction() as connection:
            turns = await self._means.store.turns(connection, _user_id(), question.conversation_id)
        if turns is None:
            raise NotFound
        return prompting.recent(turns)

    def _prelude(self, question: Question, history: tuple[Turn, ...]) -> _Prelude:
        detected = detect_next(question.text, [turn.question for turn in history]).language
        frame = prompting.frame(question.text, question.answer_language or detected, history)
        return _Prelude(detected, frame, self._means.model.prompt_tokens(frame))

    async def _find(self, question: Question, history: tuple[Turn, ...], trace: Trace) -> Finding:
        with trace.timed("search"):
            standalone = searched = question.text
            notes: tuple[Degraded, ...] = ()
            if history:
                try:
                    async with asyncio.timeout(STANDALONE_SECONDS):
                        standalone = searched = await self._means.model.standalone(question.text, history)
                except (ProviderFailure, TimeoutError):
                    searched = f"{history[-1].question} {question.text}"
                    notes = (Degraded(Step.CONVERSATION, CONTEXT_LOST),)
            return Finding(standalone, await self._retrieval.search(searched, question.where), notes)

    async def _open(
        self, question: Question, request_hash: bytes, prelude: _Prelude
    ) -> tuple[pricing.Quote, Opening, Begun]:
        """Open an answer to the best plan whose price the wallet can hold; others may spend from it meanwhile."""
        quote: pricing.Quote | None = pricing.quote(prelude.frame_tokens, pricing.FULL)
        while quote is not None:
            opening = Opening(
                answer_id=uuid4(),
                user_id=_user_id(),
                conversation_id=question.conversation_id or uuid4(),
                question=question,
                request_hash=request_hash,
                detected_language=prelude.language,
                reservation_id=uuid4(),
                max_charge_tokens=quote.max_charge_tokens,
            )
            begun = await self._begun(opening)
            if begun.outcome != "insufficient":
                return quote, opening, begun
            available = begun.available_tokens
            quote = pricing.choose(prelude.frame_tokens, min(available, quote.max_charge_tokens - 1))
        raise InsufficientBalance(needed=pricing.least_tokens(prelude.frame_tokens), available=available)

    async def _begun(self, opening: Opening) -> Begun:
        wallet = self._means.wallet
        async with self._means.database.session() as session:
            begun = await self._means.store.begin(
                session,
                opening,
                _opened(opening),
                method=METHOD,
                process_id=self._means.process_id,
                lease_seconds=self._means.lease_seconds,
                open_limit=self._open_limit,
                hold_seconds=wallet.hold_seconds,
                call_id=caller.current().request_id,
            )
        wallet.count_hold(
            held=begun.outcome == "opened", refused=begun.outcome == "insufficient", expired=begun.expired
        )
        if begun.outcome == "reused":
            raise RequestIdReused
        if begun.outcome == "too_many":
            raise QuotaExceeded("Too many of your answers are unfinished.", limit=self._open_limit)
        if begun.outcome == "no_wallet":
            raise NotFound
        return begun

    def _start(self, answer_id: UUID, generation: Generation) -> None:
        self._running[answer_id] = generation
        run = self._spawn(generation.run())
        self._runs[answer_id] = run

        def forget(_: object) -> None:
            self._running.pop(answer_id, None)
            self._runs.pop(answer_id, None)

        run.add_done_callback(forget)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run work that no caller owns; the reference kept here is what keeps it alive."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        task.add_done_callback(_seen)
        return task


def _user_id() -> UUID:
    user_id = caller.current().user_id
    if user_id is None:
        raise NotSignedIn
    return user_id


def _opened(opening: Opening) -> tuple[Event, ...]:
    """Return the events that an answer is stored with."""
    started = Started(
        answer_id=opening.answer_id,
        reservation_id=opening.reservation_id,
        conversation_id=opening.conversation_id,
        max_charge_tokens=opening.max_charge_tokens,
        detected_language=opening.detected_language,
    )
    return Event(1, started), Event(2, Progress(Stage.SEARCHING))


def _seen(task: "asyncio.Task[Any]") -> None:
    """Read the result, so that a failure nobody waits for any more is no warning; waiters still get it."""
    if not task.cancelled():
        task.exception()
