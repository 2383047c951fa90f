"""Embeddings from any endpoint that speaks OpenAI's embeddings protocol."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import numpy as np
import openai

from server.models import replies
from server.models.openai_compatible import Observe, unobserved
from server.models.openai_failures import client, correlation, failing
from server.models.port import Matrix, Purpose

_BATCH_TEXTS: Final = 96
"""Texts per request; Gemini takes 100, OpenAI 2,048 and 300,000 tokens in all."""


class OpenAIEmbedder:
    """Implements `server.models.port.Embedder`. Never another model than the one named: that would be another space."""

    def __init__(
        self,
        base_url: str,
        model: str,
        dimensions: int,
        api_key: str = "",
        *,
        timeout_seconds: float = 30.0,
        observe: Observe = unobserved,
        trace_headers: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._model = model
        self._dimensions = dimensions
        self._observe = observe
        self._trace_headers = trace_headers
        self._client = client(base_url, api_key, timeout_seconds)
        self._takes_dimensions = True

    @property
    def name(self) -> str:
        """Name of the vector space: the model and the length of its vectors."""
        return f"{self._model}-{self._dimensions}"

    @property
    def dimensions(self) -> int:
        """Length of each vector."""
        return self._dimensions

    async def close(self) -> None:
        """Release connections."""
        await self._client.close()

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Matrix:
        """Return one unit vector per text, in order. These models embed queries and passages alike."""
        if not texts:
            return np.empty((0, self._dimensions), np.float32)
        starts = range(0, len(texts), _BATCH_TEXTS)
        parts = [await self._embed(list(texts[start : start + _BATCH_TEXTS])) for start in starts]
        return np.concatenate(parts)

    async def _embed(self, texts: list[str]) -> Matrix:
        started_at, used = time.perf_counter(), 0
        try:
            with failing():
                content = await self._create(texts)
            vectors, used = replies.embeddings(content, len(texts), self._dimensions)
            return vectors
        finally:
            self._observe(self._model, "embeddings", time.perf_counter() - started_at, used)

    async def _create(self, texts: list[str]) -> bytes:
        """Return the body of the reply: the SDK would make a Python number of every component."""
        create = partial(
            self._client.embeddings.with_raw_response.create,
            model=self._model,
            input=texts,
            encoding_format="base64",
            extra_headers={**correlation(), **self._trace_headers()},
        )
        if self._takes_dimensions:
            with suppress(openai.BadRequestError):
                return (await create(dimensions=self._dimensions)).content
        # Models with one length only refuse the parameter; whether that length fits is checked on the vectors.
        reply = await create()
        self._takes_dimensions = False
        return reply.content
