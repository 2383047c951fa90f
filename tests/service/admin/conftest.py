"""What systems that are exported and restored share."""

from collections.abc import AsyncIterator

import pytest_asyncio

from server.vectors.milvus import MilvusStore


@pytest_asyncio.fixture(scope="module")
async def vectors(milvus_uri: str) -> AsyncIterator[MilvusStore]:
    """A vector store of the session's Milvus Lite."""
    store = MilvusStore(milvus_uri, timeout_seconds=60)
    yield store
    await store.close()
