"""Promises of the migrations and of the rights they leave behind."""

from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from server.database import migrate
from server.database.embedded import SERVER, EmbeddedPostgres
from server.refusal import Conflict

VENDORED = migrate.FOLDER / "sql" / "0001_procrastinate.sql"
TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'bacmr'::regnamespace AND relkind = 'r' ORDER BY 1"


@pytest.fixture
def blank(postgres: EmbeddedPostgres, request: pytest.FixtureRequest) -> Any:
    """Address of an empty database."""
    name = f"blank_{abs(hash(request.node.name))}"
    with psycopg.connect(postgres.connection.owner_url("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield postgres.connection.owner_url(name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def tables(url: str) -> list[str]:
    with psycopg.connect(url) as session:
        return [name for (name,) in session.execute(TABLES)]


def test_a_new_database_has_no_revision_and_gets_the_newest(blank: str) -> None:
    before = migrate.current(blank)
    migrate.upgrade(blank)
    assert (before, migrate.current(blank)) == (None, migrate.head())


def test_the_servers_login_reads_the_revision_though_it_inherits_no_rights(
    blank: str, postgres: EmbeddedPostgres
) -> None:
    migrate.upgrade(blank, app_login=SERVER)
    assert migrate.current(postgres.connection.url(blank.split("@/")[1].split("?")[0])) == migrate.head()


def test_migrating_twice_changes_nothing(blank: str) -> None:
    migrate.upgrade(blank)
    first = tables(blank)
    migrate.upgrade(blank)
    assert tables(blank) == first


def test_every_migration_can_be_undone_and_done_again(blank: str) -> None:
    migrate.upgrade(blank)
    first = tables(blank)
    migrate.downgrade(blank, "base")
    assert tables(blank) == ["alembic_version"]
    migrate.upgrade(blank)
    assert tables(blank) == first


def test_two_migrators_at_once_do_the_work_of_one(blank: str) -> None:
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(migrate.upgrade, blank, app_login=SERVER) for _ in range(2)]:
            done.result()
    assert migrate.current(blank) == migrate.head()


def test_a_migration_does_not_queue_behind_a_busy_table(blank: str) -> None:
    migrate.upgrade(blank, "0001_foundation")
    with psycopg.connect(blank, options="-c search_path=bacmr") as busy:
        busy.execute("SELECT * FROM idempotency")
        with pytest.raises(Conflict):
            migrate.downgrade(blank, "base")


def test_the_vendored_queue_schema_is_that_of_the_installed_package() -> None:
    shipped = resources.files("procrastinate").joinpath("sql/schema.sql").read_text(encoding="utf-8")
    vendored = VENDORED.read_text(encoding="utf-8")
    assert vendored.split("\n\n", 1)[1] == shipped.split("\n\n", 1)[1]


def test_every_revision_has_both_scripts() -> None:
    numbered = {path.stem for path in Path(migrate.FOLDER / "versions").glob("[0-9]*.py")}
    scripts = {path.name for path in Path(migrate.FOLDER / "sql").iterdir()}
    assert {f"{name}{ending}" for name in numbered for ending in (".sql", ".down.sql")} <= scripts


def test_the_app_role_is_bound_by_row_level_security_and_owns_nothing(owner: psycopg.Connection) -> None:
    rights = "SELECT rolsuper, rolbypassrls, rolcanlogin, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = %s"
    assert owner.execute(rights, ["bacmr_app"]).fetchone() == (False, False, False, False, False)
    owned = "SELECT count(*) FROM pg_class WHERE relowner = 'bacmr_app'::regrole"
    assert owner.execute(owned).fetchone() == (0,)


def test_every_table_with_a_users_rows_is_under_forced_row_level_security(owner: psycopg.Connection) -> None:
    unguarded = """
        SELECT DISTINCT c.relname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
         WHERE c.relnamespace = 'bacmr'::regnamespace AND c.relkind = 'r' AND NOT a.attisdropped
           AND a.attname IN ('user_id', 'owner_id', 'private_to')
           AND has_any_column_privilege('bacmr_app', c.oid, 'SELECT, INSERT, UPDATE')
           AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
    """
    assert owner.execute(unguarded).fetchall() == []


def test_nothing_is_open_to_everybody(owner: psycopg.Connection) -> None:
    open_functions = """
        SELECT oid::regprocedure::text FROM pg_proc
         WHERE pronamespace = 'bacmr'::regnamespace AND has_function_privilege('public', oid, 'EXECUTE')
    """
    open_tables = """
        SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'bacmr'::regnamespace AND relkind = 'r'
           AND has_table_privilege('public', oid, 'SELECT, INSERT, UPDATE, DELETE')
    """
    assert (owner.execute(open_functions).fetchall(), owner.execute(open_tables).fetchall()) == ([], [])


def test_every_definer_function_fixes_its_search_path(owner: psycopg.Connection) -> None:
    loose = """
        SELECT oid::regprocedure::text FROM pg_proc
         WHERE pronamespace = 'bacmr'::regnamespace AND prosecdef
           AND NOT coalesce(array_to_string(proconfig, ' ') LIKE 'search_path=%', false)
    """
    assert owner.execute(loose).fetchall() == []
