"""The server's own role can read what its caller may see and call the functions; nothing else about money."""

from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from server.database.pool import SESSION_OPTIONS

TABLES = (
    "wallet",
    "reservation",
    "ledger_entry",
    "voucher_batch",
    "voucher",
    "voucher_failure",
    "top_up",
    "model_usage",
)
ATTEMPTS = (
    "INSERT INTO {table} DEFAULT VALUES",
    "INSERT INTO {table} ({column}) SELECT {column} FROM {table}",
    "UPDATE {table} SET {column} = {column}",
    "DELETE FROM {table}",
    "TRUNCATE {table} CASCADE",
    "ALTER TABLE {table} DISABLE TRIGGER ALL",
    "ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY",
    "DROP TABLE {table} CASCADE",
    "CREATE TRIGGER mine BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse_change()",
    "CREATE POLICY mine ON {table} USING (true)",
    "LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
    "SELECT * FROM {table} FOR UPDATE",
    "COPY {table} FROM STDIN",
)
INTERNAL = (
    "wallet_post(NULL::wallet, 'grant', 'platform:grants', 'user:available', 1, NULL, NULL, NULL)",
    "wallet_settle(NULL::wallet, NULL::reservation, 'released', 0, NULL, NULL, NULL)",
    "wallet_move(NULL, 'grant', 'platform:grants', 'user:available', 1, NULL, NULL)",
    "wallet_expire_overdue(NULL, NULL)",
    "wallet_checks(NULL)",
    "wallet_problems_chain(NULL)",
)


@pytest.fixture
def app(addresses):
    """A connection exactly like the running server's."""
    with psycopg.connect(addresses.url, autocommit=True, options=SESSION_OPTIONS) as connection:
        yield connection


def last_column(owner, table):
    return owner.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'bacmr' AND table_name = %s"
        " ORDER BY ordinal_position DESC LIMIT 1",
        [table],
    ).fetchone()[0]


def test_every_money_table_is_in_this_test(owner):
    made = owner.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'bacmr'::regnamespace AND relkind = 'r'"
        " AND relname ~ '^(wallet|reservation|ledger|voucher|top_up|model_usage)' ORDER BY 1"
    ).fetchall()
    assert sorted(TABLES) == [name for (name,) in made]


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.split("{")[0].strip().lower())
@pytest.mark.parametrize("table", TABLES)
def test_the_server_cannot_write_a_money_table(app, owner, table, attempt):
    column = sql.Identifier(last_column(owner, table))
    statement = sql.SQL(attempt).format(table=sql.Identifier(table), column=column)
    with pytest.raises(InsufficientPrivilege), app.transaction():
        app.execute(statement)


@pytest.mark.parametrize("call", INTERNAL, ids=lambda call: call.split("(")[0])
def test_the_server_cannot_call_the_inner_functions(app, call):
    with pytest.raises(InsufficientPrivilege):
        app.execute(f"SELECT {call}")


@pytest.mark.parametrize(
    "statement",
    [
        "SET ROLE bacmr_owner",
        "SET session_replication_role = replica",
        "CREATE OR REPLACE FUNCTION caller_role() RETURNS text LANGUAGE sql RETURN 'admin'",
        "ALTER FUNCTION caller_role() RENAME TO whoever",
        "CREATE TABLE wallet_of_mine ()",
    ],
)
def test_the_server_cannot_become_more_than_it_is(app, statement):
    with pytest.raises(InsufficientPrivilege):
        app.execute(statement)


def test_functions_look_up_names_in_our_schema_only(owner):
    loose = owner.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'bacmr'::regnamespace AND prosecdef"
        " AND proname LIKE 'wallet%%' AND NOT coalesce(proconfig, '{}') @> ARRAY['search_path=bacmr, pg_temp']"
    ).fetchall()
    assert loose == []


def seen_by(app, role, user_id, table):
    with app.transaction():
        app.execute("SELECT set_config('app.role', %s, true), set_config('app.user_id', %s, true)", [role, user_id])
        return app.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()[0]


@pytest.mark.parametrize("table", ["wallet", "ledger_entry"])
def test_a_caller_sees_own_rows_and_operators_all(app, make_user, owner, table):
    one, _ = make_user(tokens=10), make_user(tokens=10)
    everything = owner.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()[0]
    assert seen_by(app, "student", str(one.user_id), table) == 1
    assert seen_by(app, "anyone", "", table) == 0
    assert seen_by(app, "admin", "", table) == seen_by(app, "service", "", table) == everything


@pytest.mark.parametrize("table", ["voucher", "voucher_batch", "voucher_failure"])
def test_students_see_nothing_of_vouchers(app, owner, make_user, table):
    user = make_user()
    with owner.transaction():
        owner.execute("SELECT set_config('app.role', 'admin', true)")
        owner.execute(
            "SELECT wallet_issue_vouchers(gen_random_uuid(), 5, NULL, ARRAY[sha256(%s::bytea)], gen_random_uuid())",
            [uuid4().bytes],
        )
    owner.execute(
        "INSERT INTO voucher_failure (user_id, address, failed_at) VALUES (%s, '', clock_timestamp())", [user.user_id]
    )
    assert seen_by(app, "student", str(user.user_id), table) == 0
    assert seen_by(app, "admin", "", table) > 0


def test_students_cannot_redeem_into_another_wallet(app, make_user):
    one, other = make_user(), make_user()
    with app.transaction():
        app.execute(
            "SELECT set_config('app.role', 'student', true), set_config('app.user_id', %s, true)", [str(one.user_id)]
        )
        outcome = app.execute(
            "SELECT outcome FROM wallet_redeem(%s, sha256('x'), %s, %s)", [other.user_id, uuid4(), uuid4()]
        ).fetchone()
    assert outcome == ("forbidden",)


@pytest.mark.parametrize(
    ("role", "own", "checks"),
    [("anyone", False, 0), ("student", False, 0), ("teacher", False, 0), ("student", True, 9), ("admin", False, 9)],
)
def test_a_wallet_is_verified_for_its_owner_and_for_operators(app, make_user, role, own, checks):
    user = make_user()
    caller_id = str(user.user_id if own else make_user().user_id)
    with app.transaction():
        app.execute("SELECT set_config('app.role', %s, true), set_config('app.user_id', %s, true)", [role, caller_id])
        found = app.execute("SELECT count(*) FROM wallet_verify(%s)", [user.user_id]).fetchone()
    assert found == (checks,)


@pytest.mark.parametrize("role", ["anyone", "student", "teacher"])
def test_only_operators_get_a_report_of_all_wallets(app, role):
    with app.transaction():
        app.execute("SELECT set_config('app.role', %s, true)", [role])
        assert app.execute("SELECT count(*) FROM wallet_reconcile()").fetchone() == (0,)
        assert app.execute("SELECT accounts, head FROM wallet_totals()").fetchone() == (None, None)
