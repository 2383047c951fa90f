"""The tutor's model at any endpoint that speaks OpenAI's chat completions (Gemini, Anthropic, Ollama, vLLM too)."""

import asyncio
import json
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final, Protocol

from openai.types.chat import ChatCompletion

from server.models import prompts, replies
from server.models.jsonstream import ObjectStream
from server.models.openai_failures import client, correlation, failing
from server.models.port import AnswerTask, DraftQuestion, Finished, ProviderFailure, QuizTask, TextDelta, Turn
from server.models.prompts import Message
from server.models.sse import data_lines
from server.text import tokens
from server.text.language import Language

Options = dict[str, Any]

_MESSAGE_TOKENS: Final = 4
"""What the chat format itself costs per message, and once for the reply (OpenAI's cookbook)."""
_OTHER_TOKENIZERS: Final = 1.3
"""How many tokens more other vendors' encodings make of French and Arabic than ours does, at most."""
_DRAIN_SECONDS: Final = 0.1
_RERANK_TOKENS_PER_TEXT: Final = 8
_STANDALONE_TOKENS: Final = 200


class Observe(Protocol):
    """Called after each request to a provider, for metrics."""

    def __call__(self, model: str, endpoint: str, duration_seconds: float, tokens: int) -> None:
        """Take one measurement; `endpoint` is `chat` or `embeddings`, `tokens` all that the request used."""


def unobserved(model: str, endpoint: str, duration_seconds: float, tokens: int) -> None:
    """Measure nothing."""


class OpenAITutor:
    """Implements `server.models.port.TutorModel` over one endpoint.

    `token_param` names the field that limits completion tokens, `supports_schema` says whether the endpoint takes JSON
    schemas (replies are validated here in any case), `timeout_seconds` bounds each wait for the next bytes.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        model: str,
        api_key: str = "",
        *,
        small_model: str = "",
        token_param: str = "max_completion_tokens",
        supports_schema: bool = True,
        timeout_seconds: float = 60.0,
        observe: Observe = unobserved,
        trace_headers: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._name = name
        self._model = model
        self._small_model = small_model or model
        self._token_param = token_param
        self._supports_schema = supports_schema
        self._token_factor = 1.0 if "api.openai.com" in base_url else _OTHER_TOKENIZERS
        self._observe = observe
        self._trace_headers = trace_headers
        self._client = client(base_url, api_key, timeout_seconds)

    @property
    def name(self) -> str:
        """Provider name as configured."""
        return self._name

    @property
    def free(self) -> bool:
        """A provider's tokens cost money."""
        return False

    async def close(self) -> None:
        """Release connections."""
        await self._client.close()

    def prompt_tokens(self, task: AnswerTask | QuizTask) -> int:
        """Count the prompt tokens this task will use, as an upper bound for encodings that differ from ours."""
        if isinstance(task, AnswerTask):
            return math.ceil(_count(prompts.answer_messages(task)) * self._token_factor)
        schema = json.dumps(prompts.quiz_schema(task.kinds)) if self._supports_schema else ""
        return math.ceil((_count(prompts.quiz_messages(task)) + tokens.count(schema)) * self._token_factor)

    def answer(self, task: AnswerTask) -> AsyncGenerator[TextDelta | Finished]:
        """Stream an answer; the last event is `Finished`. Closing the iterator stops the provider."""
        model = self._small_model if task.small else self._model
        return self._stream(model, prompts.answer_messages(task), task.max_tokens)

    async def quiz(self, task: QuizTask) -> AsyncGenerator[DraftQuestion | Finished]:
        """Stream draft questions as they become complete; drafts of another shape are dropped."""
        objects, found = ObjectStream("stem"), 0
        schema = _schema("quiz", prompts.quiz_schema(task.kinds))
        stream = self._stream(self._model, prompts.quiz_messages(task), task.max_tokens, schema)
        async with aclosing(stream) as events:
            async for event in events:
                if isinstance(event, Finished):
                    if not found:
                        raise ProviderFailure("no usable question in the reply", transient=True)
                    yield event
                    continue
                for value in objects.feed(event.text):
                    draft = replies.draft(value, task.kinds)
                    if draft is not None:
                        found += 1
                        yield draft

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return a relevance score from 0 to 1 per text, in order."""
        if not texts:
            return []
        limit = _RERANK_TOKENS_PER_TEXT * (len(texts) + 4)
        messages = prompts.rerank_messages(query, texts)
        reply = await self._complete(messages, limit, _schema("rerank", prompts.rerank_schema()))
        return replies.scores(reply, len(texts))

    async def translate(self, text: str, source: Language, target: Language) -> str:
        """Translate a short text."""
        limit = 4 * tokens.count(text) + _STANDALONE_TOKENS
        return await self._complete(prompts.translate_messages(text, source, target), limit)

    async def standalone(self, question: str, history: Sequence[Turn]) -> str:
        """Rewrite a follow-up question so that it can be understood without the conversation."""
        limit = 2 * tokens.count(question) + _STANDALONE_TOKENS
        return await self._complete(prompts.standalone_messages(question, history), limit)

    async def _stream(
        self, model: str, messages: list[Message], max_tokens: int, response_format: Options | None = None
    ) -> AsyncGenerator[TextDelta | Finished]:
        """Stream a chat. The SDK's own stream costs six times the CPU per token, so only its transport is used."""
        started_at = time.perf_counter()
        reply, finished = replies.StreamedReply(), None
        request = self._request(model, messages, max_tokens, response_format)
        sending = self._client.chat.completions.with_streaming_response.create(
            **request, stream=True, stream_options={"include_usage": True}
        )
        try:
            try:
                with failing():
                    async with sending as response, aclosing(data_lines(response.iter_bytes())) as reads:
                        async for payloads in reads:
                            if text := reply.read(payloads):
                                yield TextDelta(text)
                            if reply.done:
                                await _drain(reads)
                                break
            except ProviderFailure:
                if reply.finish_reason is None:  # else all text is here and only the usage is missing
                    raise
            finished = reply.finished(model, lambda: _count(messages))
        finally:
            # Also of a stream that broke or that nobody wanted to its end.
            used = finished.usage if finished else reply.usage(lambda: _count(messages))
            self._observe(model, "chat", time.perf_counter() - started_at, used.prompt_tokens + used.completion_tokens)
        yield finished

    async def _complete(self, messages: list[Message], max_tokens: int, response_format: Options | None = None) -> str:
        """Return the text of a short reply of the small model."""
        started_at, used = time.perf_counter(), 0
        request = self._request(self._small_model, messages, max_tokens, response_format)
        try:
            with failing():
                reply = await self._client.chat.completions.create(**request, stream=False)
            # A gateway's HTML page comes back as a string, an empty object as a completion without choices.
            if not isinstance(reply, ChatCompletion) or not reply.choices:
                raise ProviderFailure("the reply is no completion", transient=True)
            used = reply.usage.total_tokens if reply.usage else 0
            if text := (reply.choices[0].message.content or "").strip():
                return text
            raise ProviderFailure("the reply is empty", transient=True)
        finally:
            self._observe(self._small_model, "chat", time.perf_counter() - started_at, used)

    def _request(
        self, model: str, messages: list[Message], max_tokens: int, response_format: Options | None
    ) -> Options:
        request: Options = {
            "model": model,
            "messages": messages,
            "extra_headers": {**correlation(), **self._trace_headers()},
            "extra_body": {self._token_param: max_tokens},
        }
        if response_format is not None and self._supports_schema:
            request["response_format"] = response_format
        return request


def _schema(name: str, schema: dict[str, object]) -> Options:
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def _count(messages: list[Message]) -> int:
    return _MESSAGE_TOKENS + sum(_MESSAGE_TOKENS + tokens.count(message["content"]) for message in messages)


async def _drain(reads: AsyncIterator[list[bytes]]) -> None:
    """Read to the end of a finished stream, so that its connection serves the next request."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in reads:
                continue
