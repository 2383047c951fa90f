"""Promises of the schedule's clock arithmetic and of the retry rule."""

from datetime import UTC, datetime

import pytest

from server.jobs.schedule import Periodic
from server.jobs.task import Task, is_transient
from server.refusal import Conflict, Invalid, StoreUnavailable


async def nothing() -> None:
    pass


def at(day: int, hour: int, minute: int = 0, second: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, second, tzinfo=UTC)


@pytest.mark.parametrize(
    ("every", "now", "previous", "following"),
    [
        ("0 2 * * *", at(20, 1, 59, 59), at(19, 2), at(20, 2)),
        ("0 2 * * *", at(20, 2), at(20, 2), at(21, 2)),
        ("0 3 * * 0", at(20, 12), at(15, 3), at(22, 3)),
        (60, at(20, 12, 0, 59), at(20, 12), at(20, 12, 1)),
        (60, at(20, 12, 1), at(20, 12, 1), at(20, 12, 2)),
    ],
)
def test_the_ticks_around_a_moment(every: float | str, now: datetime, previous: datetime, following: datetime) -> None:
    periodic = Periodic("job", every, nothing)
    assert (periodic.previous(now), periodic.following(now)) == (previous, following)


def test_a_wrong_cron_line_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="61"):
        Periodic("job", "61 2 * * *", nothing)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StoreUnavailable(), True),
        (Conflict(), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (Invalid(), False),
        (KeyError(), False),
    ],
)
def test_only_faults_that_may_pass_are_transient(error: BaseException, expected: bool) -> None:
    assert is_transient(error) is expected


def test_waits_grow_and_end() -> None:
    task = Task("job", nothing)
    assert [task.wait_seconds(TimeoutError(), tries) for tries in range(3)] == [4.0, 16.0, None]


def test_a_job_outlives_two_lost_workers_beyond_its_tries() -> None:
    task = Task("job", nothing)
    assert [task.outlives_stall(tries) for tries in (0, 3, 4)] == [True, True, False]
