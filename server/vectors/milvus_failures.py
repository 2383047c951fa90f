"""What the Milvus client raises, as refusals."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import structlog
from pymilvus.exceptions import MilvusException

from server import refusal

_log = structlog.get_logger(__name__)

_NOT_FOUND = 100


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what the client raises into refusals; the reason goes to the log only."""
    try:
        yield
    except MilvusException as error:
        if error.code == _NOT_FOUND:
            raise refusal.NotFound("There is no such vector index.") from error
        _log.warning("milvus_failed", code=error.code, problem=error.message)
        raise refusal.StoreUnavailable(store="milvus") from error
    except grpc.RpcError as error:  # calls that a server does not know pass through the client unwrapped
        _log.warning("milvus_failed", problem=str(error))
        raise refusal.StoreUnavailable(store="milvus") from error
