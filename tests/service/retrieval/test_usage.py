"""Charges are compared with what model calls used: each fault is found, by this check and by no other."""

import asyncio
from uuid import uuid4

import pytest

from server.caller import Caller, acting_as, system
from server.models.port import Usage
from server.retrieval.usage import CHECK, charges_match_usage
from server.wallet.service import WalletService
from tests.service.retrieval.retrieving import Process, ask, question


@pytest.fixture
def reconcile(database):
    """A function that returns the failed checks with their details, and what the usage check says."""
    wallet = WalletService(database, foreign_checks=[charges_match_usage])

    async def reconcile() -> tuple[dict[str, str], str]:
        with acting_as(system()):
            report = await wallet.reconcile()
        return {check.name: check.detail for check in report.checks if not check.ok}, report.checks[-1].detail

    return reconcile


@pytest.fixture
def rig(owner, reconcile):
    """A function that makes a fault, returns what fails, and takes it back."""

    async def rig(statement: str, **values) -> dict[str, str]:
        undo = "UPDATE reservation SET resolved_at = resolved_at + interval '1 hour' WHERE resolved_at < now() - interval '30 min'"
        rows = owner.execute("SELECT * FROM model_usage").fetchall()
        assert owner.execute(statement, values).rowcount != 0
        try:
            return (await reconcile())[0]
        finally:
            owner.execute("DELETE FROM model_usage")
            with owner.cursor() as cursor:
                cursor.executemany("INSERT INTO model_usage VALUES (%s, %s, %s, %s, %s, %s, %s)", rows)
            owner.execute(undo)

    return rig


async def test_what_was_used_is_what_was_charged(process: Process, student: Caller, reconcile, owner) -> None:
    receipt = (await ask(process, student))[-1].payload.receipt
    failed, detail = await reconcile()
    assert failed == {}
    assert detail.startswith("nothing found; ")
    row = owner.execute(
        "SELECT purpose, model, used_tokens, owed_tokens FROM model_usage WHERE reservation_id = %s",
        [receipt.reservation_id],
    ).fetchone()
    assert row == ("ask", process.model.name, receipt.charged_tokens, receipt.charged_tokens)


async def test_what_is_not_charged_of_it_is_said(process: Process, student: Caller, reconcile) -> None:
    before = int((await reconcile())[1].split(", ")[1].split()[0])
    process.model.usage = Usage(50_000, 1_000)
    charged = (await ask(process, student))[-1].payload.receipt.charged_tokens
    failed, detail = await reconcile()
    assert failed == {}
    assert detail.endswith(f", {before + 51_000 - charged} of them not charged")


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (
            "UPDATE model_usage SET owed_tokens = owed_tokens + 1 WHERE user_id = %(user)s",
            "was not charged what is owed",
        ),
        ("UPDATE model_usage SET owed_tokens = 0 WHERE user_id = %(user)s", "was not charged what is owed"),
        ("UPDATE model_usage SET user_id = %(other)s WHERE user_id = %(user)s", "was paid for by somebody else"),
        (
            "INSERT INTO model_usage (reservation_id, user_id, purpose) VALUES (%(id)s, %(user)s, 'ask')",
            "used something without a reservation",
        ),
        (
            "WITH forgotten AS (DELETE FROM model_usage WHERE user_id = %(user)s RETURNING reservation_id)"
            " UPDATE reservation SET resolved_at = resolved_at - interval '1 hour'"
            " FROM forgotten WHERE id = reservation_id",
            "was charged without a recorded use",
        ),
    ],
    ids=["more is owed", "nothing is owed", "another user", "no reservation", "no use"],
)
async def test_a_charge_that_does_not_fit_what_was_used_fails_this_check_alone(
    process: Process, student: Caller, make_user, rig, reconcile, fault: str, problem: str
) -> None:
    await ask(process, student)
    found = await rig(fault, user=student.user_id, other=make_user().user_id, id=uuid4())
    assert list(found) == [CHECK]
    assert f" {problem}: " in found[CHECK]
    assert (await reconcile())[0] == {}


async def test_an_answer_given_for_nothing_fails_this_check_alone(
    process: Process, student: Caller, reconcile, owner
) -> None:
    process.model.gate, process.model.free_words = asyncio.Event(), 0
    with acting_as(student):
        answer_id = await process.room.answers.ask(question())
        reservation = (await process.wallet.reservations(student.user_id, None, size=1, page_token="")).items[0]
        await process.wallet.release(reservation.id, uuid4())
        process.model.gate.set()
        await process.room.answers.cancel(answer_id)
    found, _ = await reconcile()
    owner.execute("UPDATE model_usage SET owed_tokens = 0 WHERE reservation_id = %s", [reservation.id])
    assert list(found) == [CHECK]
    assert "was given back although something is owed" in found[CHECK]


async def test_what_other_backends_hold_for_is_not_compared(process: Process, student: Caller, reconcile) -> None:
    with acting_as(system()):
        reservation = await process.wallet.reserve(student.user_id, 100, "ask", uuid4())
        await process.wallet.finalize(reservation.id, 80, uuid4())
    assert (await reconcile())[0] == {}


async def test_a_deleted_conversation_leaves_its_charges_explained(
    process: Process, student: Caller, reconcile
) -> None:
    events = await ask(process, student)
    with acting_as(student):
        await process.room.conversations.delete_conversation(events[0].payload.conversation_id, uuid4())
    assert (await reconcile())[0] == {}


async def test_students_see_only_their_own_usage(process: Process, student: Caller, make_user, database) -> None:
    await ask(process, student)
    for who, rows in ((student, 1), (make_user(), 0)):
        with acting_as(who):
            async with database.transaction() as connection:
                seen = await connection.exec_driver_sql("SELECT user_id FROM model_usage")
                assert [row[0] for row in seen] == [student.user_id] * rows
