"""The story of one request for operators: what each step was asked and answered, without secrets and page texts."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Protocol
from uuid import UUID

from server.models.port import ProviderState, Usage
from server.retrieval.events import Citation, Ending, Validation
from server.retrieval.passage import Degraded, SearchResult
from server.retrieval.pricing import Quote
from server.wallet.reservation import Receipt

STORY_BYTES = 16 * 1024
"""Longest story kept; candidates are dropped from the end of their lists until it fits."""
WORDS_CHARACTERS = 300
"""How much of a question, translation or error a story quotes."""
SHOWN_CANDIDATES = 30
STEPS = (
    "question", "price", "search", "refusal", "degraded", "prompt", "model_calls", "drafts", "breakers", "ending",
    "check", "receipt", "stages_ms",
)  # fmt: skip
"""The steps of a story in the order of the pipeline; the database keeps them in one of its own."""
BEGAN_AT, SPANS = "began_at", "spans_ms"


@dataclass(frozen=True, slots=True)
class Span:
    """When a step began, in seconds since the request did, and how long it took; None for a mere moment."""

    started_after: float
    took: float | None


class Excerpt(Protocol):
    """A place in the library, whichever room read it."""

    @property
    def chunk_id(self) -> str:
        """Return the id of its chunk."""
        ...

    @property
    def document_title(self) -> str:
        """Return the title of its document."""
        ...

    @property
    def page(self) -> int:
        """Return its page, from 1."""
        ...


@dataclass(frozen=True, slots=True)
class Told:
    """A stored story: whose request it was, what was called and when, and its steps in the order of STEPS.

    `spans` holds the steps whose time was measured.
    """

    user_id: UUID
    method: str
    began_at: datetime
    steps: Mapping[str, Any]
    spans: Mapping[str, Span]


@dataclass(frozen=True, slots=True)
class Story:
    """A story to store, as JSON: under the request's own id and the x-request-id of its call."""

    request_id: UUID
    call_id: UUID
    user_id: UUID
    method: str
    story: str


def told(user_id: UUID, method: str, stored_at: datetime, story: Mapping[str, Any]) -> Told:
    """Read what `Trace.story` wrote; a shortened story does not know when it began, but when it was stored."""
    began_at = datetime.fromisoformat(story[BEGAN_AT]) if BEGAN_AT in story else stored_at
    spans = {
        step: Span(started / 1000, None if took is None else took / 1000)
        for step, (started, took) in story.get(SPANS, {}).items()
    }
    return Told(user_id, method, began_at, {step: story[step] for step in STEPS if step in story}, spans)


class Trace:
    """Collects what happened, in the order of the pipeline; times are milliseconds since the request began."""

    def __init__(self, question: str) -> None:
        self._began_at = perf_counter()
        self._story: dict[str, Any] = {
            BEGAN_AT: datetime.now(UTC).isoformat(),
            "question": question[:WORDS_CHARACTERS],
            "stages_ms": {},
            "degraded": [],
            SPANS: {"question": [0.0, None]},
        }

    @property
    def seconds(self) -> float:
        """Return how long ago the request began."""
        return perf_counter() - self._began_at

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Measure a step; one that is tried again lasts from its first beginning to its last end."""
        began = self._now()
        try:
            yield
        finally:
            began = self._story[SPANS].get(step, [began])[0]
            self._story[SPANS][step] = [began, round(self._now() - began, 3)]

    def reached(self, stage: str) -> None:
        """Note when a stage was reached first."""
        self._story["stages_ms"].setdefault(stage, round(self.seconds * 1000, 1))

    def held(self, max_charge_tokens: int, reservation_id: str) -> None:
        """Note a price that knows no plans."""
        self._story["price"] = {"max_charge_tokens": max_charge_tokens, "reservation_id": reservation_id}

    def quoted(self, quote: Quote, reservation_id: str) -> None:
        """Note the plan and its price."""
        self.held(quote.max_charge_tokens, reservation_id)
        self._story["price"]["plan"] = quote.plan.name

    def found(self, result: SearchResult, searched: str) -> None:
        """Note what was searched for and what the search did."""
        trace = result.trace
        self.reached("found")
        self._story["search"] = {
            "query": searched[:WORDS_CHARACTERS],
            "language": result.detected_language.value,
            "language_confidence": round(trace.language_confidence, 3),
            "translation": trace.translation[:WORDS_CHARACTERS],
            "terms": [[pair.term, pair.counterpart] for pair in result.terms],
            "cached": trace.cached,
            "reranked": trace.reranked,
            "dense": _short(trace.dense),
            "full_text": _short(trace.full_text),
            "ranked": _short(trace.ranked),
        }

    def picked(self, way: str, chunks: int) -> None:
        """Note chunks that were taken without a search, and how."""
        self._story["search"] = {"picked": way, "chunks": chunks}

    def refused(self, reason: str) -> None:
        """Note why nothing came of it."""
        self._moment("refusal")
        self._story["refusal"] = reason

    def degraded(self, note: Degraded) -> None:
        """Note a step that failed."""
        self._moment("degraded")
        self._story["degraded"].append([note.step.value, note.reason])

    def prompted(self, passages: Sequence[Excerpt], tokens: int, language: str) -> None:
        """Note what the model was given."""
        self._story["prompt"] = {
            "passages": [[passage.chunk_id[:16], passage.document_title[:60], passage.page] for passage in passages],
            "tokens_at_most": tokens,
            "answer_language": language,
        }

    def called(self, model: str, usage: Usage | None, error: str = "") -> None:
        """Note a model call and how it ended."""
        call: dict[str, Any] = {"model": model, "error": error[:WORDS_CHARACTERS]}
        if usage is not None:
            call |= {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "counted_here": usage.counted_here,
            }
        self._story.setdefault("model_calls", []).append(call)

    def drafted(self, kept: int, dropped: Counter[str]) -> None:
        """Note how many questions held, and how many did not for which reason."""
        self._story["drafts"] = {"kept": kept, "dropped": dict(dropped)}

    def breakers(self, states: Sequence[ProviderState]) -> None:
        """Note the breakers of the model chain when the answer ended."""
        self._moment("breakers")
        self._story["breakers"] = {state.name: state.breakers for state in states}

    def ended(self, ending: Ending, citations: Sequence[Citation], validation: Validation) -> None:
        """Note how the answer ended and what the check found."""
        self._moment("ending")
        self._story["ending"] = ending.value
        self._story["check"] = {
            "citations": [[citation.number, citation.page, citation.start, citation.end] for citation in citations],
            "supported_sentences": validation.supported_sentences,
            "unsupported_sentences": len(validation.unsupported_sentences),
            "dropped_citations": list(validation.dropped_citations),
        }

    def settling(self) -> None:
        """Note that the hold is about to be settled; what stores the story adds the receipt and how long it took."""
        self._moment("receipt")

    def settled(self, receipt: Receipt | None) -> None:
        """Note what was charged."""
        if receipt is not None:
            self._story["receipt"] = {
                "reserved_tokens": receipt.reserved_tokens,
                "charged_tokens": receipt.charged_tokens,
                "refunded_tokens": receipt.refunded_tokens,
                "written_off_tokens": receipt.written_off_tokens,
            }

    def story(self) -> str:
        """Return the story as JSON of at most STORY_BYTES."""
        for shown in (SHOWN_CANDIDATES, 10, 3, 0):
            told = json.dumps(_with_candidates(self._story, shown), ensure_ascii=False, separators=(",", ":"))
            if len(told.encode()) <= STORY_BYTES:
                return told.replace("\\u0000", "")
        return json.dumps({"question": self._story["question"], "price": self._story.get("price")})

    def _now(self) -> float:
        return round(self.seconds * 1000, 3)

    def _moment(self, step: str) -> None:
        self._story[SPANS].setdefault(step, [self._now(), None])


def _short(pairs: Sequence[tuple[str, float]]) -> list[list[Any]]:
    return [[chunk_id[:16], round(score, 4)] for chunk_id, score in pairs[:SHOWN_CANDIDATES]]


def _with_candidates(story: dict[str, Any], shown: int) -> dict[str, Any]:
    search = story.get("search")
    if search is None:
        return story
    lists = {name: search[name][:shown] for name in ("dense", "full_text", "ranked") if name in search}
    return story | {"search": search | lists}
