"""Row-level security: every user-owned table has it, and each role sees exactly its rows, over the real app role."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from server.auth.account import Profile
from server.caller import Caller, Role, acting_as, system
from server.database.pool import Database

# Every table of the schema that names a person: by a column, or by a foreign key to app_user.
USER_OWNED = """
SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AS forced,
       (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) AS policies,
       has_any_column_privilege('bacmr_app', c.oid, 'SELECT, INSERT, UPDATE')
         OR has_table_privilege('bacmr_app', c.oid, 'DELETE') AS reachable,
       EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid
               AND p.polroles && ARRAY[0::oid, 'bacmr_app'::regrole::oid]) AS for_app
FROM pg_class c
WHERE c.relnamespace = 'bacmr'::regnamespace AND c.relkind IN ('r', 'p') AND (
    c.relname = 'app_user'
    OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped
               AND a.attname IN ('user_id', 'owner_id', 'owner_user_id', 'student_id', 'teacher_id'))
    OR EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f'
               AND k.confrelid = 'bacmr.app_user'::regclass))
ORDER BY c.relname
"""


def unprotected(owner: psycopg.Connection) -> list[str]:
    """Name the user-owned tables whose rows are not fenced in."""
    rows = owner.execute(USER_OWNED).fetchall()
    return [
        name
        for name, forced, policies, reachable, for_app in rows
        if not forced or not policies or (reachable and not for_app)
    ]


def test_every_user_owned_table_has_row_level_security_and_a_policy(owner: psycopg.Connection) -> None:
    names = {row[0] for row in owner.execute(USER_OWNED).fetchall()}
    assert names >= {"app_user", "session", "refresh_token"}
    assert unprotected(owner) == []


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("CREATE TABLE bacmr.leak (user_id uuid)", ["leak"]),
        ("CREATE TABLE bacmr.leak (author uuid REFERENCES bacmr.app_user (id))", ["leak"]),
        ("CREATE TABLE bacmr.leak (owner_id uuid); ALTER TABLE bacmr.leak ENABLE ROW LEVEL SECURITY", ["leak"]),
        ("ALTER TABLE bacmr.session NO FORCE ROW LEVEL SECURITY", ["session"]),
        ("ALTER TABLE bacmr.app_user DISABLE ROW LEVEL SECURITY", ["app_user"]),
        ("GRANT SELECT ON bacmr.refresh_token TO bacmr_app", ["refresh_token"]),
    ],
)
def test_the_walk_finds_a_table_without_it(owner: psycopg.Connection, statement: str, found: list[str]) -> None:
    with owner.transaction(force_rollback=True):
        owner.execute(statement)
        assert unprotected(owner) == found


def test_the_app_role_cannot_step_around_it(owner: psycopg.Connection) -> None:
    role = owner.execute(
        "SELECT rolsuper, rolbypassrls, pg_has_role('bacmr_app', 'bacmr_owner', 'MEMBER') FROM pg_roles"
        " WHERE rolname = 'bacmr_app'"
    ).fetchone()
    assert role == (False, False, False)


async def visible(database: Database, who: Caller, statement: str) -> Any:
    with acting_as(who):
        async with database.transaction() as connection:
            return list((await connection.execute(text(statement))).scalars())


async def test_each_role_sees_exactly_its_accounts_and_sessions(
    house: Any, database: Database, owner: psycopg.Connection, make_user: Callable[..., Caller]
) -> None:
    people = {
        role: Caller(
            (await house.service.sign_up(f"{uuid4()}@example.org", "", "correct horse", Profile())).user.id, role
        )
        for role in (Role.STUDENT, Role.TEACHER, Role.ADMIN)
    }
    everyone = {row[0] for row in owner.execute("SELECT id FROM app_user").fetchall()}
    for table, column in (("app_user", "id"), ("session", "user_id")):
        rows = f"SELECT {column} FROM {table}"
        assert await visible(database, Caller(), rows) == []
        for role in (Role.STUDENT, Role.TEACHER):
            assert await visible(database, people[role], rows) == [people[role].user_id]
    assert set(await visible(database, people[Role.ADMIN], "SELECT id FROM app_user")) == everyone
    assert set(await visible(database, system(), "SELECT id FROM app_user")) == everyone


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT password_hash FROM app_user",
        "SELECT * FROM refresh_token",
        "SELECT * FROM sign_in_attempt",
        "DELETE FROM sign_in_attempt",
        "INSERT INTO app_user (role) VALUES ('admin')",
        "UPDATE app_user SET role = 'admin'",
        "UPDATE app_user SET tier = 'premium'",
        "UPDATE app_user SET disabled_at = NULL",
        "DELETE FROM app_user",
        "TRUNCATE session CASCADE",
        "UPDATE session SET revoked_at = NULL",
        "UPDATE session SET expires_at = 'infinity'",
        "ALTER TABLE app_user DISABLE ROW LEVEL SECURITY",
        "SET ROLE bacmr_owner",
        "SELECT change_access((SELECT caller_id()), 'admin', NULL, NULL)",
        "SELECT create_account(gen_random_uuid(), 'x@example.org', NULL, 'h', '', NULL, 'admin')",
        "SELECT keep_an_administrator((SELECT caller_id()))",
        "SELECT set_password(gen_random_uuid(), 'h')",
        "SELECT erase_account(gen_random_uuid())",
        "SELECT revoke_sessions(gen_random_uuid(), NULL)",
        "SELECT begin_session(gen_random_uuid(), gen_random_uuid(), sha256('x'), 60, '', '', 9)",
    ],
)
async def test_a_student_on_the_app_role_reaches_neither_secrets_nor_rights(
    house: Any, database: Database, statement: str
) -> None:
    signed_in = await house.service.sign_up(f"{uuid4()}@example.org", "", "correct horse", Profile())
    with pytest.raises(DBAPIError, match=r"permission denied|row-level security|only operators|owner"):
        await visible(database, Caller(signed_in.user.id, Role.STUDENT), statement)


async def test_a_student_changes_no_other_persons_rows(
    house: Any, database: Database, owner: psycopg.Connection, make_user: Callable[..., Caller]
) -> None:
    victim = (await house.service.sign_up(f"{uuid4()}@example.org", "", "correct horse", Profile("Amina"))).user
    thief = make_user()
    changed = "RETURNING id"
    assert await visible(database, thief, f"UPDATE app_user SET display_name = 'x' {changed}") == [thief.user_id]
    assert await visible(database, thief, f"UPDATE session SET revoked_at = now() {changed}") == []
    stored = owner.execute("SELECT display_name FROM app_user WHERE id = %s", [victim.id]).fetchone()
    assert stored == ("Amina",)


async def test_the_claims_rule_is_one_function_that_knows_rights_and_nothing_personal(
    house: Any, database: Database
) -> None:
    user_id = (await house.service.sign_up(f"{uuid4()}@example.org", "", "correct horse", Profile("Amina"))).user.id
    (claims,) = await visible(database, Caller(), f"SELECT token_claims('{user_id}')")
    assert claims == {"sub": str(user_id), "app_metadata": {"role": "student", "tier": "free"}}
    assert await visible(database, Caller(), f"SELECT token_claims('{uuid4()}')") == [None]


async def test_the_claims_rule_refuses_who_is_disabled(
    house: Any, database: Database, owner: psycopg.Connection
) -> None:
    user_id = (await house.service.sign_up(f"{uuid4()}@example.org", "", "correct horse", Profile())).user.id
    owner.execute("UPDATE app_user SET disabled_at = now() WHERE id = %s", [user_id])
    with pytest.raises(DBAPIError, match="account disabled"):
        await visible(database, Caller(), f"SELECT token_claims('{user_id}')")
