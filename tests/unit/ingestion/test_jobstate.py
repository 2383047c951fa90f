"""The one table of legal moves."""

import itertools

import pytest

from server.ingestion.jobstate import MAX_ATTEMPTS, MOVES, JobState, next_try_after, require_move
from server.refusal import IllegalState

LEGAL = {
    ("PENDING", "EXTRACTING"),
    ("EXTRACTING", "CHUNKING"),
    ("CHUNKING", "EMBEDDING"),
    ("EMBEDDING", "INDEXING"),
    ("INDEXING", "READY"),
    ("FAILED", "PENDING"),
    ("CANCELLED", "PENDING"),
    *((state, "FAILED") for state in ("PENDING", "EXTRACTING", "CHUNKING", "EMBEDDING", "INDEXING")),
    *((state, "CANCELLED") for state in ("PENDING", "EXTRACTING", "CHUNKING", "EMBEDDING", "INDEXING")),
    *((state, "PENDING") for state in ("EXTRACTING", "CHUNKING", "EMBEDDING", "INDEXING")),
}
ALL = list(itertools.product(JobState, JobState))


@pytest.mark.parametrize(("before", "after"), [move for move in ALL if move in LEGAL])
def test_a_legal_move_passes(before: JobState, after: JobState) -> None:
    require_move(before, after)


@pytest.mark.parametrize(("before", "after"), [move for move in ALL if move not in LEGAL])
def test_an_illegal_move_is_refused_with_the_legal_ones(before: JobState, after: JobState) -> None:
    with pytest.raises(IllegalState) as refused:
        require_move(before, after)
    assert refused.value.metadata["state"] == before
    assert refused.value.metadata["allowed"] == (",".join(sorted(MOVES[before])) or "none")


def test_a_ready_job_moves_no_more() -> None:
    assert not MOVES[JobState.READY]


def test_a_transient_fault_is_tried_three_times_with_growing_waits() -> None:
    waits = [next_try_after(attempts, transient=True) for attempts in range(1, MAX_ATTEMPTS + 1)]
    assert waits[0] is not None
    assert waits[1] is not None
    assert waits[0] < waits[1]
    assert waits[2] is None


def test_a_permanent_fault_is_not_tried_again() -> None:
    assert next_try_after(1, transient=False) is None
