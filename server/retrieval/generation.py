"""One answer being made: passages to prompt, prompt to text, text to checked citations, and the settlement.

It runs in the server, not in a call: streams are windows on its journal. Whatever ends it, one settlement and one last
event follow; if the process dies, the lease runs out and `recovery` closes the answer from what is stored.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from uuid import UUID

import structlog

from server.database.pool import Database
from server.models.port import (
    AnswerTask,
    Finished,
    FinishReason,
    ProviderFailure,
    ProviderState,
    TextDelta,
    TutorModel,
    Usage,
)
from server.refusal import ModelUnavailable, Refusal
from server.retrieval import citations, pricing, prompting
from server.retrieval.answer import ENDING_REFUSALS, Closing, Opening
from server.retrieval.events import (
    Completed,
    Delta,
    Ending,
    Event,
    PassagesFound,
    Progress,
    Stage,
    StepDegraded,
    Validation,
)
from server.retrieval.journal import Journal, Lost
from server.retrieval.passage import Degraded, Passage, SearchResult, Step
from server.retrieval.settlement import Settlement
from server.retrieval.store import AnswerStore
from server.retrieval.trace import Trace
from server.telemetry.metrics import record_degraded_step, record_first_token
from server.text.tokens import count
from server.wallet.service import WalletService

log = structlog.get_logger(__name__)

ENDINGS = {
    FinishReason.STOP: Ending.STOP,
    FinishReason.LENGTH: Ending.LENGTH,
    FinishReason.FILTERED: Ending.INTERRUPTED,
}
METHOD = "Ask"
CHEAPER = "The wallet holds too few tokens for the full plan; fewer passages and the smaller model were used."
QUOTED = "No model answered; the passages are quoted instead and the model is not charged."


@dataclass(frozen=True, slots=True)
class Means:
    """What every answer of this process is made with.

    `quoting` answers by quoting, free of charge, when `model` cannot; None: nothing can. `process_id` is who this
    process is in leases. `breakers` tells the model chain's states for traces.
    """

    database: Database
    store: AnswerStore
    wallet: WalletService
    settlement: Settlement
    model: TutorModel
    quoting: TutorModel | None
    bridge: citations.Bridge
    breakers: Callable[[], Sequence[ProviderState]]
    process_id: UUID
    lease_seconds: float
    answer_seconds: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found for a question; `standalone` is the question as it reads without its conversation."""

    standalone: str
    result: SearchResult
    notes: tuple[Degraded, ...]


@dataclass(frozen=True, slots=True)
class Commission:
    """What one answer starts from. `finding` is the search, begun before the answer was opened."""

    opening: Opening
    opened: Sequence[Event]
    quote: pricing.Quote
    frame: AnswerTask
    frame_tokens: int
    finding: "asyncio.Task[Finding]"
    correlation_id: UUID
    trace: Trace


class Generation:
    """One answer; `run` returns when it is settled and stored."""

    def __init__(self, commission: Commission, means: Means) -> None:
        self._commission = commission
        self._means = means
        self._trace = commission.trace
        self._producer: asyncio.Task[object] | None = None
        self._stop_as: Ending | None = None
        self._passages: tuple[Passage, ...] = ()
        self._prompt_tokens = 0
        self._text_tokens = 0
        self._usage: Usage | None = None
        self._free = True
        self._dispatched = False
        self._model = ""
        self._refusal = ""
        self.journal = Journal(commission.opened, self._write)

    @property
    def user_id(self) -> UUID:
        """Return whose answer it is."""
        return self._commission.opening.user_id

    def stop(self, ending: Ending) -> None:
        """End the answer where it stands; the first reason given stays."""
        self._stop_as = self._stop_as or ending
        if self._producer is not None:
            self._producer.cancel()

    async def run(self) -> None:
        """Make the answer, settle it, store its end."""
        keeper = asyncio.create_task(self.journal.keep())
        producer = asyncio.create_task(self._produce())
        try:
            await asyncio.wait((keeper, producer), return_when=asyncio.FIRST_COMPLETED)
            if keeper.done():
                self.stop(Ending.INTERRUPTED)
            ending = await producer
            checked = await self._check(ending)
            self.journal.stop()
            await keeper
            await self._close(ending, checked)
        except Lost as lost:
            log.warning("answer_lost", answer_id=str(self._commission.opening.answer_id), cause=repr(lost.__cause__))
        except Exception:
            # A background task: nobody waits for it who could be told. Its lease runs out and `recovery` closes it.
            log.exception("answer_abandoned", answer_id=str(self._commission.opening.answer_id))
        finally:
            self.journal.give_up()
            keeper.cancel()

    async def _produce(self) -> Ending:
        self._producer = asyncio.current_task()
        try:
            if self._stop_as is not None:
                return self._stop_as
            async with asyncio.timeout(self._means.answer_seconds):
                return await self._answer()
        except asyncio.CancelledError:
            return self._stopped()
        except TimeoutError:
            return self._broken(ModelUnavailable.reason)
        except Refusal as refusal:
            return self._broken(refusal.reason)
        except Exception:
            # A background task: whatever broke, the hold must be settled and the stream must end.
            log.exception("answer_failed", answer_id=str(self._commission.opening.answer_id))
            return self._broken(ModelUnavailable.reason)
        finally:
            self._commission.finding.cancel()

    def _stopped(self) -> Ending:
        """Return why the making was cancelled: by `stop`, or else with the whole process."""
        if self._stop_as is None:
            raise asyncio.CancelledError
        return self._stop_as

    def _broken(self, reason: str) -> Ending:
        """Return how an answer ends that cannot go on: what was delivered stands, else it failed for `reason`."""
        if self.journal.has_text:
            return Ending.INTERRUPTED
        self._refusal = reason if reason in ENDING_REFUSALS else ModelUnavailable.reason
        return Ending.FAILED

    async def _answer(self) -> Ending:
        quote = self._commission.quote
        finding = await self._commission.finding
        found = finding.result
        self._trace.found(found, finding.standalone)
        for note in (*finding.notes, *found.degraded):
            self._degraded(note)
        if quote.plan is not pricing.FULL:
            self._degraded(Degraded(Step.PLAN, CHEAPER))
        frame, frame_tokens = prompting.restated(
            self._commission.frame, self._commission.frame_tokens, finding.standalone
        )
        with self._trace.timed("prompt"):
            prompt = prompting.compose(frame, frame_tokens, found.passages, quote)
        self._passages = prompt.passages
        self._prompt_tokens = prompt.tokens
        self._trace.prompted(prompt.passages, prompt.tokens, prompt.task.language.value)
        self.journal.append(PassagesFound(prompt.passages, found.terms))
        self.journal.append(Progress(Stage.ANSWERING))
        try:
            return await self._generate(self._means.model, prompt.task, free=False)
        except ProviderFailure as failure:
            self._trace.called(self._means.model.name, None, str(failure))
            if self.journal.has_text:
                return Ending.INTERRUPTED
        return await self._fall_back(prompt.task)

    async def _fall_back(self, task: AnswerTask) -> Ending:
        """Quote the passages when no model answers; what the model would have cost is not charged."""
        if self._means.quoting is None:
            return self._broken(ModelUnavailable.reason)
        self._degraded(Degraded(Step.MODEL, QUOTED))
        try:
            await self._generate(self._means.quoting, task, free=True)
        except ProviderFailure as failure:
            self._trace.called(self._means.quoting.name, None, str(failure))
            return self._broken(ModelUnavailable.reason)
        return Ending.QUOTED

    async def _generate(self, model: TutorModel, task: AnswerTask, *, free: bool) -> Ending:
        self._free, self._dispatched = free, True
        finished: Finished | None = None
        with self._trace.timed("model_calls"):
            async with aclosing(model.answer(task)) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        self._take(event.text)
                    else:
                        finished = event
        if finished is None or not self.journal.has_text:
            raise ProviderFailure("the generation ended without a result", transient=True)
        self._usage = finished.usage
        self._model = finished.model
        self._trace.called(finished.model, finished.usage)
        return ENDINGS[finished.reason]

    def _take(self, text: str) -> None:
        if not self.journal.has_text:
            self._trace.reached("first_text")
        # PostgreSQL cannot store NUL, and no text needs it.
        self.journal.add_text(text.replace("\0", ""))

    async def _check(self, ending: Ending) -> citations.Checked:
        if not self.journal.has_text:
            return citations.Checked((), Validation(0))
        self.journal.append(Progress(Stage.CHECKING))
        with self._trace.timed("check"):
            checked = await citations.check_across(
                self.journal.text, self._passages, self._means.bridge, self._means.model
            )
        self._trace.ended(ending, checked.citations, checked.validation)
        return checked

    def _degraded(self, note: Degraded) -> None:
        record_degraded_step(note.step.value)
        self._trace.degraded(note)
        self.journal.append(StepDegraded(note))

    async def _write(self, batch: Sequence[Event]) -> None:
        """Store a batch and what it delivers; raises Lost when the answer is not ours or no longer paid for."""
        means = self._means
        text_tokens = sum(count(event.payload.text) for event in batch if isinstance(event.payload, Delta))
        delivered = self._owed(self._text_tokens + text_tokens) if text_tokens else 0
        async with means.database.session() as session:
            outcome = await means.store.append(
                session,
                self._commission.opening.answer_id,
                batch,
                delivered_tokens=delivered,
                process_id=means.process_id,
                lease_seconds=means.lease_seconds,
            )
        if outcome == "lost":
            raise Lost
        if text_tokens and not self._text_tokens:
            record_first_token(METHOD, self._trace.seconds)
        self._text_tokens += text_tokens
        if outcome == "cancel":
            self.stop(Ending.CANCELLED)

    def _owed(self, text_tokens: int) -> int:
        """Return what the answer costs with this much text: nothing before the prompt was sent, or for quotations."""
        return pricing.charge(self._commission.opening.max_charge_tokens, *self._used(text_tokens))

    def _used(self, text_tokens: int) -> tuple[int, int]:
        """Return the tokens of the prompt and of the completion that the model call processed."""
        if self._free or not self._dispatched:
            return 0, 0
        if self._usage is not None:
            return self._usage.prompt_tokens, self._usage.completion_tokens
        return self._prompt_tokens, text_tokens

    async def _close(self, ending: Ending, checked: citations.Checked) -> None:
        opening, means = self._commission.opening, self._means
        # A prompt that a student stopped is owed even before its first word, or stopping would make questions free.
        owed = self._owed(self._text_tokens) if self.journal.has_text or ending is Ending.CANCELLED else 0
        self._trace.breakers(means.breakers())
        self._trace.settling()
        closing = Closing(
            ending,
            self.journal.text,
            self._model,
            checked.citations,
            checked.validation,
            sum(self._used(self._text_tokens)),
            owed,
            self._refusal,
        )
        completed = Completed(ending, checked.citations, checked.validation, None, self._model, self._refusal)
        receipt = await means.settlement.end(
            opening.answer_id,
            opening.question.request_id,
            closing,
            self.journal.last(completed),
            correlation_id=self._commission.correlation_id,
            story=self._trace.story(),
        )
        self.journal.end(self.journal.last(replace(completed, receipt=receipt)))
