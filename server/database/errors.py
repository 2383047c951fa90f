"""What a database error means to a caller: which are refusals, and which stay bugs."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy.exc
from psycopg import errors

from server.refusal import Conflict, DeadlineExceeded, Refusal, StoreUnavailable

CONFLICTS = (errors.SerializationFailure, errors.DeadlockDetected, errors.LockNotAvailable)
UNAVAILABLE_CLASSES = ("08", "53", "57")
"""SQLSTATE classes of a server that is gone, full, starting or stopping (`57014`, a cancelled query, is told apart)."""
RETRY_AFTER_SECONDS = 1.0


def unavailable() -> StoreUnavailable:
    """Return the refusal of a PostgreSQL that cannot be reached."""
    return StoreUnavailable(retry_after_seconds=RETRY_AFTER_SECONDS, store="postgresql")


def refusal_of(error: BaseException) -> Refusal | None:
    """Return the refusal that an error of SQLAlchemy or psycopg means, or None when it is a bug of ours."""
    cause = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
    if isinstance(cause, errors.QueryCanceled):
        return DeadlineExceeded()
    if isinstance(cause, CONFLICTS):
        return Conflict(retry_after_seconds=RETRY_AFTER_SECONDS)
    if isinstance(cause, sqlalchemy.exc.TimeoutError):
        return unavailable()
    if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
        lost = not cause.sqlstate or cause.sqlstate[:2] in UNAVAILABLE_CLASSES
        return unavailable() if lost else None
    return None


@contextmanager
def translated() -> Iterator[None]:
    """Raise refusals for the database errors that are no bugs; everything else passes unchanged."""
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, psycopg.Error) as error:
        refusal = refusal_of(error)
        if refusal is None:
            raise
        raise refusal from error
