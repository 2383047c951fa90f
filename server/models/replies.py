"""Reading what a model replied; everything foreign is validated here. Pure."""

import base64
import json
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from pydantic_core import from_json

from server.models.jsonstream import ObjectStream
from server.models.port import DraftQuestion, Finished, FinishReason, Matrix, ProviderFailure, QuestionKind, Usage
from server.text import tokens

_REASONS: Final = {"length": FinishReason.LENGTH, "content_filter": FinishReason.FILTERED}
_BEST_SCORE: Final = 10.0
_DONE: Final = b"[DONE]"

_Line = Annotated[str, Field(max_length=1_000)]
_Text = Annotated[str, Field(max_length=4_000)]
_Lines = Annotated[list[_Line], Field(max_length=10)]


class StreamedReply:
    """What the chunks of one streamed chat completion have told so far."""

    def __init__(self) -> None:
        self.done = False
        self.finish_reason: str | None = None
        self._texts: list[str] = []
        self._usage: dict[str, Any] | None = None

    def read(self, payloads: Sequence[bytes]) -> str:
        """Take some chunks and return the text they hold. Raises ProviderFailure for an error or another shape."""
        try:
            text = "".join([self._read(payload) for payload in payloads])
        except (ValueError, AttributeError, TypeError) as error:
            raise ProviderFailure("the stream is malformed", transient=True) from error
        if text:
            self._texts.append(text)
        return text

    def finished(self, model: str, count_prompt: Callable[[], int]) -> Finished:
        """Return the last event; tokens are counted here when the provider told none.

        Raises ProviderFailure when the stream ended before it said why.
        """
        if self.finish_reason is None:
            raise ProviderFailure("the stream ended without finish_reason", transient=True)
        return Finished(_REASONS.get(self.finish_reason, FinishReason.STOP), self.usage(count_prompt), model)

    def usage(self, count_prompt: Callable[[], int]) -> Usage:
        """Return what was used so far: as the provider told, else counted here, and nothing before it said anything."""
        told = self._usage or {}
        match told.get("prompt_tokens"), told.get("completion_tokens"):
            case int(prompt), int(completion) if prompt > 0 and completion > 0:
                return Usage(prompt, completion)
        if self.finish_reason is None and not self._texts:
            return Usage(0, 0, counted_here=True)
        return Usage(count_prompt(), tokens.count("".join(self._texts)), counted_here=True)

    def _read(self, payload: bytes) -> str:
        if payload == _DONE:
            self.done = True
            return ""
        chunk = from_json(payload)
        if chunk.get("error"):
            raise ProviderFailure("the provider broke off with an error", transient=True)
        self._usage = chunk.get("usage") or self._usage
        text = ""
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            text += delta.get("content") or delta.get("refusal") or ""
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        return text


class _Draft(BaseModel):
    model_config = ConfigDict(strict=True)

    kind: str
    stem: Annotated[_Text, Field(min_length=1)]
    options: _Lines = []
    correct: Annotated[list[int], Field(max_length=10)] = []
    accepted: _Lines = []
    explanation: _Text = ""
    source_number: int
    quote: Annotated[_Text, Field(min_length=1)]
    topic: _Line = ""


class _Scores(BaseModel):
    scores: list[FiniteFloat]


def draft(value: dict[str, Any], kinds: Sequence[QuestionKind]) -> DraftQuestion | None:
    """Return the question a model wrote, or None when it has another shape than asked for."""
    try:
        read = _Draft.model_validate(value)
    except ValidationError:
        return None
    if read.kind not in kinds:
        return None
    return DraftQuestion(
        kind=QuestionKind(read.kind),
        stem=read.stem,
        options=tuple(read.options),
        correct=tuple(read.correct),
        accepted=tuple(read.accepted),
        explanation=read.explanation,
        source_number=read.source_number,
        quote=read.quote,
        topic=read.topic,
    )


def scores(reply: str, count: int) -> list[float]:
    """Return `count` scores from 0 to 1. Raises ProviderFailure when the reply holds anything else."""
    for value in ObjectStream("scores").feed(reply):
        try:
            read = _Scores.model_validate(value).scores
        except ValidationError:
            continue
        if len(read) == count:
            return [min(max(score / _BEST_SCORE, 0.0), 1.0) for score in read]
    raise ProviderFailure("the scores do not fit the passages", transient=True)


def embeddings(content: bytes, count: int, dimensions: int) -> tuple[Matrix, int]:
    """Return `count` vectors of length 1 in the order of the texts, and the tokens used.

    Raises ProviderFailure for anything that would poison an index.
    """
    try:
        reply = json.loads(content)
        items = sorted(reply["data"], key=itemgetter("index"))
        matrix = np.stack([_vector(item["embedding"]) for item in items])
        used = int((reply.get("usage") or {}).get("total_tokens") or 0)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ProviderFailure("the reply holds no embeddings", transient=True) from error
    if matrix.shape != (count, dimensions):
        raise ProviderFailure(f"expected {count} embeddings of {dimensions} numbers", transient=False)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not (lengths > 0).all():
        raise ProviderFailure("the embeddings are not finite numbers", transient=True)
    unit: Matrix = matrix / lengths
    return unit, used


def _vector(embedding: str | list[float]) -> NDArray[np.float32]:
    """Return the numbers of an embedding; some servers send a list although base64 was asked for."""
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding), "<f4").astype(np.float32)
    return np.asarray(embedding, np.float32)
