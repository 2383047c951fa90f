"""Verification and reconciliation find whatever is changed behind the server's back, by name, and repair nothing."""

from itertools import pairwise
from uuid import uuid4

import psycopg
import pytest

from server.caller import acting_as, system
from server.refusal import Forbidden, NotFound
from server.wallet.ledger import chained_hash, first_break
from server.wallet.report import Check
from server.wallet.service import WalletService

CHECKS = [
    "balances_match_ledger",
    "held_matches_open_reservations",
    "reservations_settled_once",
    "accounts_sum_to_zero",
    "hash_chain_verifies",
    "no_overdue_reservations",
    "usage_charged_or_written_off",
    "request_ids_unique",
    "credits_match_ledger",
]


@pytest.fixture
async def busy(wallet, student, credits, make_user):
    """A student whose wallet has seen every kind of movement."""
    for actual in (60, 150, 270):
        await wallet.finalize((await wallet.reserve(student.user_id, 100, "ask", uuid4())).id, actual, uuid4())
    await wallet.release((await wallet.reserve(student.user_id, 100, "ask", uuid4())).id, uuid4())
    await wallet.reserve(student.user_id, 40, "ask", uuid4())
    with acting_as(make_user(role="admin")):
        await credits.adjust(student.user_id, 5, "five", uuid4())
        (code,) = (await credits.issue_vouchers(1, 50, None, uuid4())).codes
    await credits.redeem(code, uuid4())
    return student


@pytest.fixture
def tamper(owner, books):
    """A function that changes something as the superuser, without triggers, asks, and takes it back."""

    def tamper(*statements, **values):
        found = {}
        with owner.transaction(force_rollback=True):
            owner.execute("SET LOCAL session_replication_role = replica")
            for statement in statements:
                changed = owner.execute(statement, values)
                assert changed.rowcount != 0
            found = books.problems()
        assert books.problems() == {}
        return found

    return tamper


async def all_entries(wallet, user_id):
    return (await wallet.entries(user_id, size=200, page_token="")).items[::-1]


async def test_untouched_books_pass_every_check(wallet, busy):
    report = await wallet.verify()
    assert report.ok
    assert [check.name for check in report.checks] == CHECKS
    assert {check.detail for check in report.checks} == {"nothing found"}


async def test_the_chain_can_be_verified_outside_the_database(wallet, busy):
    entries = await all_entries(wallet, busy.user_id)
    assert len(entries) > 12
    assert first_break(entries) is None
    assert [chained_hash(entry.previous_hash, entry) for entry in entries] == [entry.hash for entry in entries]


@pytest.mark.parametrize(
    "change",
    [
        "amount_tokens = amount_tokens + 1",
        "balance_after_tokens = balance_after_tokens + 1",
        "kind = kind || '.'",
        "debit_account = debit_account || '.'",
        "credit_account = credit_account || '.'",
        "reservation_id = gen_random_uuid()",
        "request_id = gen_random_uuid()",
        "call_id = gen_random_uuid()",
        "reason = reason || '.'",
        "created_at = created_at + interval '1 microsecond'",
        "previous_hash = sha256('')",
        "hash = sha256('')",
    ],
    ids=lambda change: change.split(" ")[0],
)
async def test_any_changed_field_of_any_entry_is_found(wallet, busy, owner, tamper, change):
    owner.execute("ALTER TABLE ledger_entry DROP CONSTRAINT ledger_entry_sound")
    try:
        for entry in await all_entries(wallet, busy.user_id):
            statement = f"UPDATE ledger_entry SET {change} WHERE user_id = %(user)s AND sequence = %(sequence)s"
            assert "hash_chain_verifies" in tamper(statement, user=busy.user_id, sequence=entry.sequence)
    finally:
        owner.execute(
            "ALTER TABLE ledger_entry ADD CONSTRAINT ledger_entry_sound CHECK (ledger_entry_is_sound("
            "kind, debit_account, credit_account, amount_tokens, balance_after_tokens, reservation_id IS NOT NULL))"
        )


async def test_any_missing_entry_is_found(wallet, busy, tamper):
    for entry in await all_entries(wallet, busy.user_id):
        statement = "DELETE FROM ledger_entry WHERE user_id = %(user)s AND sequence = %(sequence)s"
        assert "hash_chain_verifies" in tamper(statement, user=busy.user_id, sequence=entry.sequence)


async def test_a_ledger_without_its_entries_is_found(busy, tamper):
    assert "hash_chain_verifies" in tamper("DELETE FROM ledger_entry WHERE user_id = %(user)s", user=busy.user_id)


async def test_any_two_reordered_entries_are_found(wallet, busy, tamper):
    entries = await all_entries(wallet, busy.user_id)
    move = "UPDATE ledger_entry SET sequence = {} WHERE user_id = %(user)s AND sequence = {}"
    for one, other in pairwise(entry.sequence for entry in entries):
        swap = (move.format(-1, one), move.format(one, other), move.format(other, -1))
        assert "hash_chain_verifies" in tamper(*swap, user=busy.user_id)


async def test_a_forged_entry_at_the_end_is_found(busy, tamper):
    found = tamper(
        "INSERT INTO ledger_entry SELECT user_id, sequence + 1, 'grant', 'platform:grants', 'user:available', 1000,"
        " balance_after_tokens + 1000, NULL, gen_random_uuid(), call_id, '', created_at, hash,"
        " ledger_hash(hash, user_id, sequence + 1, 'grant', 'platform:grants', 'user:available', 1000,"
        " balance_after_tokens + 1000, NULL, request_id, call_id, created_at, '')"
        " FROM ledger_entry WHERE user_id = %(user)s ORDER BY sequence DESC LIMIT 1",
        user=busy.user_id,
    )
    assert {"hash_chain_verifies", "balances_match_ledger"} <= set(found)


@pytest.mark.parametrize(
    ("statement", "check"),
    [
        ("UPDATE wallet SET available_tokens = available_tokens + 1 WHERE user_id = %(user)s", "balances_match_ledger"),
        ("UPDATE wallet SET available_tokens = available_tokens + 1 WHERE user_id = %(user)s", "accounts_sum_to_zero"),
        (
            "UPDATE wallet SET available_tokens = available_tokens + 1, held_tokens = held_tokens - 1"
            " WHERE user_id = %(user)s",
            "held_matches_open_reservations",
        ),
        ("UPDATE wallet SET sequence = sequence - 1 WHERE user_id = %(user)s", "hash_chain_verifies"),
        ("UPDATE wallet SET head_hash = sha256('') WHERE user_id = %(user)s", "hash_chain_verifies"),
        ("DELETE FROM wallet WHERE user_id = %(user)s", "balances_match_ledger"),
        (
            "UPDATE reservation SET estimate_tokens = estimate_tokens + 1 WHERE user_id = %(user)s AND status = 'held'",
            "held_matches_open_reservations",
        ),
        (
            "UPDATE reservation SET charged_tokens = 61, actual_tokens = 61"
            " WHERE user_id = %(user)s AND charged_tokens = 60",
            "reservations_settled_once",
        ),
        (
            "UPDATE reservation SET status = 'released', charged_tokens = 0, actual_tokens = 0"
            " WHERE user_id = %(user)s AND charged_tokens = 60",
            "reservations_settled_once",
        ),
        (
            "UPDATE reservation SET status = 'expired' WHERE user_id = %(user)s AND status = 'released'",
            "reservations_settled_once",
        ),
        ("DELETE FROM reservation WHERE user_id = %(user)s AND status = 'held'", "reservations_settled_once"),
        (
            "UPDATE reservation SET created_at = created_at - interval '1 hour',"
            " expires_at = expires_at - interval '1 hour'"
            " WHERE user_id = %(user)s AND status = 'held'",
            "no_overdue_reservations",
        ),
        (
            "UPDATE reservation SET status = 'expired' WHERE user_id = %(user)s AND charged_tokens = 60",
            "usage_charged_or_written_off",
        ),
        (
            "UPDATE voucher SET redeemed_by = NULL, redeemed_at = NULL, request_id = NULL WHERE redeemed_by = %(user)s",
            "credits_match_ledger",
        ),
        (
            "INSERT INTO top_up VALUES ('bankily', gen_random_uuid()::text, %(user)s, 5, gen_random_uuid())",
            "credits_match_ledger",
        ),
    ],
)
async def test_what_does_not_fit_together_is_found_by_name(busy, tamper, statement, check):
    assert check in tamper(statement, user=busy.user_id)


# As somebody would forge a ledger who knows how its chain is made.
REHASH = """
DO $$ DECLARE e ledger_entry; h bytea := decode(repeat('00', 32), 'hex'); u uuid := '%(user)s'; BEGIN
  FOR e IN SELECT * FROM ledger_entry WHERE user_id = u ORDER BY sequence LOOP
    UPDATE ledger_entry SET previous_hash = h, hash = ledger_hash(
        h, e.user_id, e.sequence, e.kind, e.debit_account, e.credit_account, e.amount_tokens, e.balance_after_tokens,
        e.reservation_id, e.request_id, e.call_id, e.created_at, e.reason)
     WHERE user_id = u AND sequence = e.sequence RETURNING hash INTO h;
  END LOOP;
  UPDATE wallet SET head_hash = h WHERE user_id = u;
END $$"""


@pytest.mark.parametrize(
    ("check", "statements"),
    [
        (
            "balances_match_ledger",
            [
                "UPDATE wallet SET available_tokens = available_tokens + CASE user_id WHEN %(user)s THEN 1 ELSE -1 END"
                " WHERE user_id IN (%(user)s, %(other)s)"
            ],
        ),
        (
            "held_matches_open_reservations",
            [
                "ALTER TABLE ledger_entry DROP CONSTRAINT ledger_entry_sound",
                "INSERT INTO ledger_entry SELECT user_id, sequence + 1, 'gift', 'user:available', 'user:held', 1,"
                " balance_after_tokens - 1, NULL, gen_random_uuid(), call_id, '', created_at, hash, hash"
                " FROM ledger_entry WHERE user_id = %(user)s ORDER BY sequence DESC LIMIT 1",
                "UPDATE wallet SET available_tokens = available_tokens - 1, held_tokens = held_tokens + 1,"
                " sequence = sequence + 1 WHERE user_id = %(user)s",
                REHASH,
            ],
        ),
        (
            "reservations_settled_once",
            ["UPDATE ledger_entry SET kind = 'expiry' WHERE user_id = %(user)s AND kind = 'refund'", REHASH],
        ),
        ("hash_chain_verifies", ["UPDATE ledger_entry SET reason = 'another one' WHERE user_id = %(user)s"]),
        (
            "no_overdue_reservations",
            [
                "UPDATE reservation SET created_at = created_at - interval '1 hour',"
                " expires_at = expires_at - interval '1 hour' WHERE user_id = %(user)s AND status = 'held'"
            ],
        ),
        (
            "usage_charged_or_written_off",
            [
                "ALTER TABLE reservation DROP CONSTRAINT reservation_sound",
                "UPDATE reservation SET actual_tokens = actual_tokens + 1 WHERE user_id = %(user)s AND charged_tokens = 60",
            ],
        ),
        (
            "request_ids_unique",
            [
                "DROP INDEX reservation_resolve_request",
                "UPDATE reservation SET resolve_request_id = %(user)s WHERE user_id = %(user)s AND status = 'finalized'",
            ],
        ),
        (
            "credits_match_ledger",
            ["INSERT INTO top_up VALUES ('bankily', gen_random_uuid()::text, %(user)s, 5, gen_random_uuid())"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_each_check_finds_what_no_other_does(busy, make_user, owner, books, check, statements):
    """All but `accounts_sum_to_zero`: with one row for both sides, no total can be wrong while every wallet is right."""
    other = make_user(tokens=10)
    with owner.transaction(force_rollback=True):
        owner.execute("SET LOCAL session_replication_role = replica")
        for statement in statements:
            if "DO $$" in statement:
                owner.execute((statement % {"user": busy.user_id}).encode())
            else:
                owner.execute(statement, {"user": busy.user_id, "other": other.user_id})
        assert list(books.problems()) == [check]
    assert books.problems() == {}


async def test_the_detail_says_what_was_found_and_where(busy, tamper):
    found = tamper("UPDATE wallet SET available_tokens = 7 WHERE user_id = %(user)s", user=busy.user_id)
    assert found["balances_match_ledger"].startswith(
        f"1 found: wallet {busy.user_id}: available 7 and held 40, ledger says "
    )


async def test_a_planted_discrepancy_is_reported_and_not_repaired(wallet, busy, owner, books):
    owner.execute("UPDATE wallet SET available_tokens = available_tokens + 13 WHERE user_id = %s", [busy.user_id])
    try:
        before = books.balance(busy.user_id)
        with acting_as(system()):
            report = await wallet.reconcile()
        assert not report.ok
        assert {c.name for c in report.checks if not c.ok} == {"balances_match_ledger", "accounts_sum_to_zero"}
        assert {check.name: check.problems for check in report.checks} == {
            name: int(name in ("balances_match_ledger", "accounts_sum_to_zero")) for name in CHECKS
        }
        assert books.balance(busy.user_id) == before
    finally:
        owner.execute("UPDATE wallet SET available_tokens = available_tokens - 13 WHERE user_id = %s", [busy.user_id])


async def test_reconciling_right_books_finds_nothing_and_nets_to_zero(wallet, busy):
    with acting_as(system()):
        report = await wallet.reconcile()
    assert report.ok
    assert sum(report.accounts.values()) == 0
    assert report.accounts["platform:write_off"] < 0 < report.accounts["platform:revenue"]
    assert {check.name: check.problems for check in report.checks} == dict.fromkeys(CHECKS, 0)
    assert len(report.head) == 64


async def test_the_head_of_all_chains_changes_with_every_entry(wallet, busy):
    with acting_as(system()):
        first = (await wallet.reconcile()).head
        assert (await wallet.reconcile()).head == first
    await wallet.reserve(busy.user_id, 1, "ask", uuid4())
    with acting_as(system()):
        assert (await wallet.reconcile()).head != first


async def test_checks_of_other_rooms_are_part_of_the_report(database, student, seen):
    async def leak(connection):
        return Check("usage_matches_settlements", False, "1 found: an answer without a charge", 1)

    wallet = WalletService(database, meters=seen.meters(), foreign_checks=(leak,))
    with acting_as(system()):
        report = await wallet.reconcile()
    assert not report.ok
    assert (report.checks[-1].name, report.checks[-1].problems) == ("usage_matches_settlements", 1)


async def test_students_cannot_reconcile(wallet, student):
    with pytest.raises(Forbidden):
        await wallet.reconcile()


async def test_a_wallet_that_is_not_there_cannot_be_verified(wallet, make_user):
    with acting_as(make_user(role="admin")), pytest.raises(NotFound):
        await wallet.verify(uuid4())


@pytest.mark.parametrize("table", ["ledger_entry", "top_up", "voucher_batch"])
@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET request_id = request_id", "DELETE FROM {}", "TRUNCATE {} CASCADE"]
)
async def test_even_the_owner_cannot_rewrite_history_by_mistake(busy, owner, table, statement):
    with pytest.raises(psycopg.errors.RestrictViolation, match="corrected by new entries"):
        owner.execute(statement.format(table))


@pytest.mark.parametrize("table", ["wallet", "reservation", "voucher"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "TRUNCATE {} CASCADE"])
async def test_money_rows_cannot_be_deleted_by_mistake(busy, owner, table, statement):
    with pytest.raises(psycopg.errors.RestrictViolation):
        owner.execute(statement.format(table))
