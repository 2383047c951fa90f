"""A library with people, money, answers and a quiz, and empty systems beside it, for the tests of recovery."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from server.admin.recovery.export import Exported, Exporter, Wish
from server.admin.recovery.import_ import Imported, Importer, Target, open_export
from server.admin.recovery.place import Place, Places
from server.admin.recovery.tables import EXPORTED
from server.blobs.objects import open_blobs
from server.blobs.port import BlobStore
from server.blobs.tickets import Tickets
from server.caller import Caller, Role, Tier, acting_as
from server.database.embedded import EmbeddedPostgres
from server.database.pool import Database
from server.retrieval.usage import record_use
from server.wallet.service import WalletService
from tests.conftest import TEMPLATE, Addresses, insert_user

KEY = "correct horse battery staple"
TICKETS = Tickets(b"s" * 32, "http://files.test")
ODD = 'une « ligne »\nune autre\r\n\\x41 \\\\ "…" \t سؤال \U0001f600'
"""Text that a careless format would break."""
JSON_TEXT = '{"b" : 1.50, "a":\n "\\u00e9\\n", "b": 2}'
"""JSON as it was written: order, doubles and spaces are kept but for the line's end between two tokens."""
_names = itertools.count(1)


@dataclass
class Watched:
    """Progress that remembers its stages."""

    stages: list[str] = field(default_factory=list)

    async def report(self, stage: str, done: int = 0, total: int = 0) -> None:
        self.stages.append(stage)


@contextmanager
def fresh_system(postgres: EmbeddedPostgres) -> Iterator[Addresses]:
    """A migrated, empty database."""
    name, connection = f"recovery_{next(_names)}", postgres.connection
    with psycopg.connect(connection.owner_url("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(TEMPLATE)))
        try:
            yield Addresses(connection.url(name), connection.owner_url(name))
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def blob_folder(folder: Path) -> BlobStore:
    folder.mkdir(exist_ok=True)
    return open_blobs(folder.as_uri(), TICKETS)


def places(blobs: BlobStore, url: str) -> Places:
    return Places(blobs, url, TICKETS)


async def export(owner_url: str, blobs: BlobStore, place: Place, secret: str = "", **wish: bool) -> Exported:
    return await Exporter(owner_url, blobs, secret, "1.2.3").export(Wish(uuid4(), **wish), place, Watched())


async def restore(target: Target, place: Place, secret: str = "", request_id: UUID | None = None) -> Imported:
    return await Importer(target).run(await open_export(place, secret), request_id or uuid4(), Watched())


def contents(owner_url: str) -> dict[str, list[str]]:
    """Every row of every exported table, in the database's own words, but for what an import itself notes."""
    with psycopg.connect(owner_url, autocommit=True, options="-c search_path=bacmr") as owner:
        return {
            table: sorted(
                row
                for (row,) in owner.execute(sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(table)))
                if "data.import" not in row
            )
            for table in EXPORTED
        }


def add_administrator(owner_url: str, email: str = "root@example.org") -> Caller:
    """What a new system holds after its first start."""
    admin = Caller(user_id=uuid4(), role=Role.ADMIN, tier=Tier.FREE, request_id=uuid4())
    with psycopg.connect(owner_url, autocommit=True, options="-c search_path=bacmr") as owner:
        insert_user(owner, admin, 20_000)
        owner.execute("UPDATE app_user SET email = %s WHERE id = %s", [email, admin.user_id])
        owner.execute(
            "INSERT INTO audit_event (actor_id, action, object, before, after, request_id)"
            " VALUES (%s, 'operation.import', 'operation/x', 'null', '{}', gen_random_uuid())",
            [admin.user_id],
        )
    return admin


async def spend(database: Database, student: Caller, tokens: int) -> None:
    """Pay for something, by a hold that is finalized."""
    with acting_as(student):
        wallet = WalletService(database)
        held = await wallet.reserve(student.user_id, 2 * tokens, "ask", uuid4())
        async with database.transaction() as connection:
            await record_use(
                connection, held.id, student.user_id, "ask", model="test", used_tokens=tokens, owed_tokens=tokens
            )
        await wallet.finalize(held.id, tokens, uuid4())


def study(owner: psycopg.Connection, student: Caller, index: str) -> None:
    """Rows of every other table, with texts that are hard to carry."""
    ids = {name: uuid4() for name in ("conversation", "answer", "quiz", "question", "reservation", "batch", "source")}
    values = {**ids, "user": student.user_id, "odd": ODD, "json": JSON_TEXT, "request": uuid4(), "index": index}
    for statement in ROWS.split(";\n"):
        owner.execute(statement, values)


ROWS = """
INSERT INTO conversation (id, user_id, title) VALUES (%(conversation)s, %(user)s, %(odd)s);
INSERT INTO answer (id, user_id, conversation_id, request_id, request_hash, question, detected_language, reservation_id,
    max_charge_tokens, state, process_id, lease_expires_at, ending, completed_at, content, validation)
    VALUES (%(answer)s, %(user)s, %(conversation)s, %(request)s, '\\x00ff', %(odd)s, 'fr', %(reservation)s, 10, 'completed',
    gen_random_uuid(), now(), 'stop', now(), %(odd)s, %(json)s);
INSERT INTO answer_event (answer_id, sequence, user_id, payload) VALUES (%(answer)s, 1, %(user)s, '{"text": "…\\n"}');
INSERT INTO answer_citation VALUES (%(answer)s, 1, %(user)s, 1, repeat('a', 64), gen_random_uuid(), %(odd)s, 1, 'q', 0, 5);
INSERT INTO rating (answer_id, user_id, helpful, comment) VALUES (%(answer)s, %(user)s, true, %(odd)s);
INSERT INTO trace (request_id, correlation_id, user_id, method, story)
    SELECT %(request)s, gen_random_uuid(), %(user)s, 'Ask', '{"a": [1, null, 0.1]}' FROM generate_series(1, 3);
INSERT INTO quiz (id, owner_id, request_id, request_hash, difficulty) VALUES (%(quiz)s, %(user)s, %(request)s, '\\x01', 'easy');
INSERT INTO quiz_question (id, quiz_id, number, kind, stem, options, topic, key)
    VALUES (%(question)s, %(quiz)s, 1, 'choice', %(odd)s, '["a", "b"]', 't', '{"right": [0]}');
INSERT INTO quiz_event VALUES (%(quiz)s, 1, '{"x": "é"}');
INSERT INTO quiz_attempt (quiz_id, user_id, max_score, score) VALUES (%(quiz)s, %(user)s, 1, 0.1);
INSERT INTO question_memory VALUES (%(user)s, %(question)s, 's', 't', 'new', now(), 0.1, 1, 0);
INSERT INTO voucher_batch (id, issued_by, request_id, tokens) VALUES (%(batch)s, %(user)s, %(request)s, 5);
INSERT INTO voucher (code_hash, batch_id, position) VALUES (sha256('x'), %(batch)s, 1);
INSERT INTO discrepancy ("check", detail) VALUES ('balances_match_ledger', %(odd)s);
INSERT INTO audit_event (actor_id, action, object, before, after, request_id)
    VALUES (%(user)s, 'user.role', 'user/1', 'null', '{"role": "admin"}', %(request)s);
INSERT INTO source (id, name, start_url, namespace) VALUES (%(source)s, %(odd)s, 'https://example.org/', 'maths');
INSERT INTO source_page (source_id, url, links, verdict) VALUES (%(source)s, 'https://example.org/a', '{"a,b","c\\"d"}', 'x');
INSERT INTO upload (owner_id, filename, content_type, size_bytes, sha256, title, visibility, blob_key, expires_at)
    VALUES (%(user)s, 'a.pdf', 'application/pdf', 1, repeat('a', 64), %(odd)s, 'shared', 'files/new', now());
INSERT INTO vector_index (name, model, dimensions, analyser_version, state) VALUES (%(index)s, 'words', 64, 1, 'active');
INSERT INTO document_remains (document_id, blob_key) VALUES (gen_random_uuid(), 'files/old');
UPDATE app_user SET password_hash = 'argon2 of ' || id, phone = '+22236000000' WHERE id = %(user)s"""
