"""Each guard holds something: taken away in a scratch database, the next guard refuses or the checks find it.

Races are made by hand with two open transactions, so that nothing depends on luck.
"""

from contextlib import contextmanager
from itertools import count
from threading import Thread
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import CheckViolation, NoDataFound, UniqueViolation

_databases = count(1)
LOCK = "FOR NO KEY UPDATE"
ENOUGH = "IF w.available_tokens < p_estimate THEN\n        outcome := 'insufficient'"
RESOLVED = "IF r.status <> 'held' THEN"
STILL_HELD = " AND t.status = 'held'\n    RETURNING"
ONCE_PER_WALLET = "ALTER TABLE ledger_entry DROP CONSTRAINT ledger_entry_pkey"
ONCE_PER_RESERVATION = "DROP INDEX ledger_entry_once_per_reservation"
NOT_NEGATIVE = "ALTER TABLE wallet DROP CONSTRAINT wallet_available_tokens_check"
SOUND_ENTRIES = "ALTER TABLE ledger_entry DROP CONSTRAINT ledger_entry_sound"


class Scratch:
    """A database of its own, whose guards can be taken away."""

    def __init__(self, url):
        self.url = url
        self.connection = self.connect(autocommit=True)
        self.user, self.other = self.make_user(), self.make_user()

    def connect(self, autocommit=False):
        return psycopg.connect(self.url, autocommit=autocommit, options="-c search_path=bacmr -c app.role=admin")

    def make_user(self):
        user_id = self.connection.execute("INSERT INTO app_user (display_name) VALUES ('') RETURNING id").fetchone()[0]
        self.connection.execute("SELECT wallet_open(%s, 100, %s, %s)", [user_id, uuid4(), uuid4()])
        return user_id

    def drop(self, *statements):
        for statement in statements:
            self.connection.execute(statement)

    def cut(self, function, guard, instead=""):
        """Take `guard` out of a function's text."""
        body = self.connection.execute("SELECT pg_get_functiondef(%s::regproc)", [function]).fetchone()[0]
        assert guard in body
        self.connection.execute(body.replace(guard, instead).encode())

    def problems(self):
        return {row[0] for row in self.connection.execute("SELECT name FROM wallet_reconcile() WHERE problems > 0")}


@pytest.fixture
def scratch(postgres):
    name = f"guard_{next(_databases)}"
    with psycopg.connect(postgres.connection.owner_url("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE bacmr").format(sql.Identifier(name)))
        scratch = Scratch(postgres.connection.owner_url(name))
        yield scratch
        scratch.connection.close()
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def reserve(connection, user, estimate=60, request=None, by=None):
    ids = [request or uuid4(), by or uuid4(), uuid4()]
    return connection.execute(
        "SELECT outcome, (r).id FROM wallet_reserve(%s, %s, 'ask', 300, %s, %s, %s)", [user, estimate, *ids]
    ).fetchone()


def finalize(connection, reservation, actual=50):
    return connection.execute(
        "SELECT outcome FROM wallet_finalize(%s, %s, %s, %s, %s)", [reservation, actual, uuid4(), uuid4(), uuid4()]
    ).fetchone()[0]


@contextmanager
def at_the_same_time(scratch, first, second):
    """Run `first` in an open transaction, let `second` begin, commit the first, await the second; yields its errors."""
    errors = []

    def run_second(connection):
        try:
            second(connection)
            connection.commit()
        except psycopg.Error as error:
            errors.append(error)

    with scratch.connect() as one, scratch.connect() as two:
        first(one)
        waiting = Thread(target=run_second, args=[two])
        waiting.start()
        # Until it waits for a lock of the first, or is done.
        blocked = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
        while waiting.is_alive() and not scratch.connection.execute(blocked, [two.info.backend_pid]).fetchone()[0]:
            pass
        one.commit()
        waiting.join()
    yield errors


def race_for_the_last_tokens(scratch):
    return at_the_same_time(scratch, lambda one: reserve(one, scratch.user), lambda two: reserve(two, scratch.user))


def held(scratch):
    return scratch.connection.execute("SELECT count(*) FROM reservation WHERE status = 'held'").fetchone()[0]


def test_with_all_guards_one_of_two_gets_the_last_tokens(scratch):
    with race_for_the_last_tokens(scratch) as errors:
        assert (errors, held(scratch), scratch.problems()) == ([], 1, set())


def test_without_the_lock_the_chain_s_key_refuses(scratch):
    scratch.cut("wallet_reserve", LOCK)
    with race_for_the_last_tokens(scratch) as errors:
        assert [type(error) for error in errors] == [UniqueViolation]
    assert (held(scratch), scratch.problems()) == (1, set())


def test_without_the_lock_and_the_key_the_checks_find_the_double_spend(scratch):
    scratch.cut("wallet_reserve", LOCK)
    scratch.drop(ONCE_PER_WALLET)
    with race_for_the_last_tokens(scratch) as errors:
        assert errors == []
    assert held(scratch) == 2
    assert {"balances_match_ledger", "held_matches_open_reservations", "hash_chain_verifies"} <= scratch.problems()


def test_without_the_comparison_the_wallet_refuses_to_go_below_zero(scratch):
    scratch.cut("wallet_reserve", ENOUGH, "IF false THEN\n        outcome := 'insufficient'")
    with pytest.raises(CheckViolation):
        reserve(scratch.connection, scratch.user, 101)


def test_without_the_comparison_and_the_constraints_the_checks_find_the_debt(scratch):
    scratch.cut("wallet_reserve", ENOUGH, "IF false THEN\n        outcome := 'insufficient'")
    scratch.drop(NOT_NEGATIVE, SOUND_ENTRIES)
    reserve(scratch.connection, scratch.user, 101)
    assert "balances_match_ledger" in scratch.problems()


def test_without_the_question_whether_it_ended_a_second_charge_meets_its_key(scratch):
    scratch.cut("wallet_finalize", RESOLVED, "IF false THEN")
    _, reservation = reserve(scratch.connection, scratch.user)
    finalize(scratch.connection, reservation)
    with pytest.raises(UniqueViolation):
        finalize(scratch.connection, reservation)
    assert scratch.problems() == set()


def test_without_the_question_and_the_key_a_second_settlement_finds_no_hold(scratch):
    scratch.cut("wallet_finalize", RESOLVED, "IF false THEN")
    scratch.drop(ONCE_PER_RESERVATION)
    _, reservation = reserve(scratch.connection, scratch.user)
    finalize(scratch.connection, reservation)
    with pytest.raises(NoDataFound):
        finalize(scratch.connection, reservation)
    assert scratch.problems() == set()


def test_without_the_questions_and_the_key_the_checks_find_the_second_charge(scratch):
    scratch.cut("wallet_finalize", RESOLVED, "IF false THEN")
    scratch.cut("wallet_settle", STILL_HELD, "\n    RETURNING")
    scratch.drop(ONCE_PER_RESERVATION)
    _, reservation = reserve(scratch.connection, scratch.user, 30)
    reserve(scratch.connection, scratch.user, 70)
    finalize(scratch.connection, reservation, 30)
    finalize(scratch.connection, reservation, 30)
    assert {"reservations_settled_once", "held_matches_open_reservations"} <= scratch.problems()


def test_without_the_clock_a_late_settlement_would_post(scratch):
    scratch.cut("wallet_finalize", "IF r.expires_at <= clock_timestamp() THEN", "IF false THEN")
    _, reservation = reserve(scratch.connection, scratch.user)
    scratch.connection.execute(
        "UPDATE reservation SET created_at = created_at - interval '1 hour',"
        " expires_at = expires_at - interval '1 hour'"
    )
    assert finalize(scratch.connection, reservation) == "settled"


def delivery(reservation):
    return lambda one: one.execute("SELECT wallet_deliver(%s, 30)", [reservation])


def charged(scratch, reservation):
    found = scratch.connection.execute("SELECT status, charged_tokens FROM reservation WHERE id = %s", [reservation])
    return found.fetchone()


def the_holder_settles(reservation):
    statement = "SELECT wallet_finalize(%s, NULL, NULL, NULL, %s)"
    return lambda two: two.execute(statement, [reservation, uuid4()])


def test_a_settlement_waits_for_a_delivery_that_is_being_recorded(scratch):
    _, reservation = reserve(scratch.connection, scratch.user)
    with at_the_same_time(scratch, delivery(reservation), the_holder_settles(reservation)) as errors:
        assert (errors, charged(scratch, reservation)) == ([], ("finalized", 30))


def test_without_its_lock_a_settlement_would_give_away_what_is_being_delivered(scratch):
    scratch.cut("wallet_finalize", "WHERE t.id = p_reservation FOR NO KEY UPDATE", "WHERE t.id = p_reservation")
    _, reservation = reserve(scratch.connection, scratch.user)
    with at_the_same_time(scratch, delivery(reservation), the_holder_settles(reservation)) as errors:
        assert (errors, charged(scratch, reservation)) == ([], ("released", 0))


def last_moment_delivery(scratch, reservation):
    """Record a delivery just in time; what comes after it finds the hold overdue."""
    scratch.connection.execute("UPDATE reservation SET expires_at = clock_timestamp() + interval '400 ms'")

    def deliver(one):
        assert one.execute("SELECT wallet_deliver(%s, 30)", [reservation]).fetchone() == ("recorded",)
        one.execute("SELECT pg_sleep_until(expires_at) FROM reservation WHERE id = %s", [reservation])

    return deliver


def sweep(two):
    two.execute("SELECT wallet_expire(10, %s)", [uuid4()])


def test_an_expiry_waits_for_a_delivery_that_is_being_recorded(scratch):
    _, reservation = reserve(scratch.connection, scratch.user)
    with at_the_same_time(scratch, last_moment_delivery(scratch, reservation), sweep) as errors:
        assert (errors, charged(scratch, reservation)) == ([], ("expired", 30))
    assert scratch.problems() == set()


def test_without_its_lock_an_expiry_would_give_away_what_is_being_delivered(scratch):
    scratch.cut("wallet_expire_overdue", "ORDER BY t.expires_at, t.id FOR UPDATE", "ORDER BY t.expires_at, t.id")
    _, reservation = reserve(scratch.connection, scratch.user)
    with at_the_same_time(scratch, last_moment_delivery(scratch, reservation), sweep) as errors:
        assert errors == []
    assert charged(scratch, reservation) == ("expired", 0)
    assert scratch.problems() == {"usage_charged_or_written_off"}


def same_request_on_two_wallets(scratch):
    request, by = uuid4(), uuid4()
    return at_the_same_time(
        scratch,
        lambda one: reserve(one, scratch.user, request=request, by=by),
        lambda two: reserve(two, scratch.other, request=request, by=by),
    )


def test_with_all_guards_a_request_that_comes_twice_at_once_holds_once(scratch):
    with same_request_on_two_wallets(scratch) as errors:
        assert [type(error) for error in errors] == [UniqueViolation]
    assert (held(scratch), scratch.problems()) == (1, set())


def test_without_the_request_s_key_the_checks_find_the_second_hold(scratch):
    scratch.drop("DROP INDEX reservation_request")
    with same_request_on_two_wallets(scratch) as errors:
        assert errors == []
    assert scratch.problems() == {"request_ids_unique"}


@pytest.mark.parametrize(
    ("kind", "debit", "credit", "amount"),
    [
        ("grant", "platform:grants", "user:available", 0),
        ("grant", "platform:grants", "user:available", -5),
        ("grant", "user:available", "user:available", 5),
        ("grant", "external:top_up", "user:available", 5),
        ("grant", "platform:grants", "user:mine", 5),
        ("refund", "platform:revenue", "user:available", 5),
        ("gift", "platform:grants", "user:available", 5),
    ],
)
def test_an_entry_that_is_no_transfer_between_the_accounts_of_its_kind_cannot_be_written(
    scratch, kind, debit, credit, amount
):
    with pytest.raises(CheckViolation):
        scratch.connection.execute(
            "SELECT wallet_move(%s, %s, %s, %s, %s, %s, %s)",
            [scratch.user, kind, debit, credit, amount, uuid4(), uuid4()],
        )
    assert scratch.problems() == set()


@pytest.mark.parametrize(
    "change",
    [
        "status = 'finalized'",
        "status = 'gone'",
        "charged_tokens = 1",
        "estimate_tokens = 0",
        "estimate_tokens = 1000000001",
        "delivered_tokens = -1",
        "expires_at = created_at",
        "expires_at = created_at + interval '25 hours'",
        "purpose = 'A purpose'",
        "status = 'finalized', actual_tokens = 200, charged_tokens = 200, balance_after_tokens = 0, resolved_at = now()",
        "status = 'released', actual_tokens = 9, charged_tokens = 0, balance_after_tokens = 0, resolved_at = now()",
    ],
)
def test_a_reservation_that_makes_no_sense_cannot_be_stored(scratch, change):
    reserve(scratch.connection, scratch.user)
    with pytest.raises(CheckViolation):
        scratch.connection.execute(f"UPDATE reservation SET {change}")


def voucher_for_two(scratch):
    code = uuid4().bytes
    scratch.connection.execute(
        "SELECT wallet_issue_vouchers(gen_random_uuid(), 5, NULL, ARRAY[sha256(%s::bytea)], gen_random_uuid())", [code]
    )

    def redeem(connection, user):
        connection.execute("SELECT wallet_redeem(%s, sha256(%s::bytea), %s, %s)", [user, code, uuid4(), uuid4()])

    return at_the_same_time(scratch, lambda one: redeem(one, scratch.user), lambda two: redeem(two, scratch.other))


def voucher_entries(scratch):
    return scratch.connection.execute("SELECT count(*) FROM ledger_entry WHERE kind = 'voucher'").fetchone()[0]


def test_with_all_guards_a_voucher_is_redeemed_once(scratch):
    with voucher_for_two(scratch) as errors:
        assert (errors, voucher_entries(scratch), scratch.problems()) == ([], 1, set())


def test_without_the_voucher_s_lock_the_checks_find_the_second_redeem(scratch):
    scratch.cut("wallet_redeem", "FOR UPDATE")
    with voucher_for_two(scratch) as errors:
        assert (errors, voucher_entries(scratch)) == ([], 2)
    assert scratch.problems() == {"credits_match_ledger"}


def test_without_its_key_a_payment_reported_twice_at_once_would_credit_twice(scratch):
    scratch.drop("ALTER TABLE top_up DROP CONSTRAINT top_up_pkey")
    scratch.cut("wallet_top_up", "ON CONFLICT (provider, reference) DO NOTHING")
    scratch.drop("DROP INDEX ledger_entry_once_per_request")
    request = uuid4()
    for _ in range(2):
        scratch.connection.execute(
            "SELECT wallet_top_up(%s, 'bankily', 'BK-1', 5, %s, %s)", [scratch.user, request, uuid4()]
        )
    assert "request_ids_unique" in scratch.problems()
