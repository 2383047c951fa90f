"""Which database errors are refusals."""

import psycopg
import pytest
import sqlalchemy.exc
from psycopg import errors

from server.database.errors import refusal_of, translated
from server.refusal import Conflict, DeadlineExceeded, StoreUnavailable


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.QueryCanceled(), DeadlineExceeded),
        (errors.SerializationFailure(), Conflict),
        (errors.DeadlockDetected(), Conflict),
        (errors.LockNotAvailable(), Conflict),
        (errors.AdminShutdown(), StoreUnavailable),
        (errors.CannotConnectNow(), StoreUnavailable),
        (errors.TooManyConnections(), StoreUnavailable),
        (errors.DiskFull(), StoreUnavailable),
        (psycopg.OperationalError("connection refused"), StoreUnavailable),
        (psycopg.InterfaceError("the connection is closed"), StoreUnavailable),
        (sqlalchemy.exc.TimeoutError("QueuePool limit reached"), StoreUnavailable),
        (sqlalchemy.exc.OperationalError("SELECT 1", {}, errors.QueryCanceled()), DeadlineExceeded),
    ],
)
def test_an_outage_or_a_conflict_is_a_refusal(error: Exception, expected: type) -> None:
    assert isinstance(refusal_of(error), expected)


@pytest.mark.parametrize(
    "error",
    [errors.UniqueViolation(), errors.SyntaxError(), errors.InsufficientPrivilege(), errors.StatementTooComplex()],
)
def test_a_bug_of_ours_stays_an_error(error: Exception) -> None:
    assert refusal_of(error) is None


def test_other_exceptions_pass_unchanged() -> None:
    with pytest.raises(KeyError), translated():
        raise KeyError


def test_a_refusal_names_the_store_and_when_to_come_back() -> None:
    with pytest.raises(StoreUnavailable) as refused, translated():
        raise psycopg.OperationalError
    assert (refused.value.metadata, refused.value.retry_after_seconds) == ({"store": "postgresql"}, 1.0)
