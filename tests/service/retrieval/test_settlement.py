"""Promises of an answer's end: the hold is settled and the end is stored, both or neither, and once."""

from uuid import uuid4

import psycopg
import pytest

from server.caller import Caller, acting_as
from server.retrieval.events import Completed, Ending
from tests.conftest import Addresses
from tests.service.retrieval.retrieving import Process, events_of, question
from tests.service.retrieval.test_recovery import settlements, stuck

END = """
    SELECT answer_end(
        id, process_id, last_sequence, '[{"kind": "completed"}]', 'stop', '', '', '', NULL, '[]', gen_random_uuid(), NULL, 5,
        5, request_id, gen_random_uuid())
    FROM answer WHERE id = %s
"""


@pytest.mark.parametrize("end", ["rolled back", "killed"])
async def test_an_end_that_dies_before_its_commit_changes_nothing(
    process: Process, student: Caller, owner, addresses: Addresses, end: str
) -> None:
    answer_id, _ = await stuck(process, student, 2)
    with psycopg.connect(addresses.owner_url, options="-c search_path=bacmr") as connection:
        connection.execute(END, [answer_id])
        if end == "killed":
            owner.execute("SELECT pg_terminate_backend(%s, 10000)", [connection.info.backend_pid])
            connection.close()
        else:
            connection.rollback()
    assert settlements(owner, student) == []
    process.model.gate.set()
    assert (await events_of(process, student, answer_id))[-1].payload.ending is Ending.STOP
    assert [kind for kind, _ in settlements(owner, student)] == ["charge", "refund"]


async def test_an_end_that_is_repeated_is_the_first_one(process: Process, student: Caller, owner) -> None:
    answer_id, _ = await stuck(process, student, 2)
    process.model.gate.set()
    events = await events_of(process, student, answer_id)
    settled = settlements(owner, student)
    with owner.transaction():
        [(repeated,)] = owner.execute(END, [answer_id]).fetchall()
    assert repeated[0] == "ended"
    assert settlements(owner, student) == settled
    assert await events_of(process, student, answer_id) == events


async def test_a_hold_that_ran_out_meanwhile_keeps_its_settlement(process: Process, student: Caller, owner) -> None:
    answer_id, _ = await stuck(process, student, 2)
    owner.execute(
        "UPDATE reservation SET created_at = created_at - interval '1 hour', expires_at = expires_at - interval '1 hour'"
        " WHERE id = (SELECT reservation_id FROM answer WHERE id = %s)",
        [answer_id],
    )
    assert await process.wallet.expire_overdue() == 1
    before = settlements(owner, student)
    with acting_as(student):
        await process.room.answers.cancel(answer_id)
    completed = (await events_of(process, student, answer_id))[-1].payload
    assert isinstance(completed, Completed)
    assert settlements(owner, student) == before
    assert completed.receipt.charged_tokens == dict(before)["charge"]


async def test_an_id_that_the_student_used_in_the_wallet_too_settles_the_answer_all_the_same(
    process: Process, student: Caller, owner
) -> None:
    asked = question()
    with acting_as(student):
        other = await process.wallet.reserve(student.user_id, 10, "other", asked.request_id)
        answer_id = await process.room.answers.ask(asked)
        events = await events_of(process, student, answer_id)
        await process.wallet.release(other.id, uuid4())
    receipt = events[-1].payload.receipt
    assert receipt.request_id == asked.request_id
    assert dict(settlements(owner, student))["charge"] == receipt.charged_tokens
