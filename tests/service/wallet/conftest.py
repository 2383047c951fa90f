"""The wallet over a real PostgreSQL, and eyes behind its back."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import pytest_asyncio

from server.caller import Caller, acting_as, system
from server.database.once import Once
from server.database.pool import Database
from server.wallet.credits import CreditService
from server.wallet.meters import Meters
from server.wallet.service import WalletService
from server.wallet.topup import SignedJson

VOUCHER_KEY = b"a secret of thirty-two bytes, ok"
PROVIDER_SECRET = b"shared with bankily"


@dataclass
class Seen:
    """What the wallet reported: counts by status, the gauges, and the audit trail."""

    reservations: dict[str, int] = field(default_factory=dict)
    active: int = -1
    stale: int = -1
    audit: list[tuple[Any, ...]] = field(default_factory=list)

    def count(self, status: str, count: int = 1) -> None:
        self.reservations[status] = self.reservations.get(status, 0) + count

    def meters(self) -> Meters:
        def set_active(count: int) -> None:
            self.active = count

        def set_stale(count: int) -> None:
            self.stale = count

        return Meters(self.count, set_active, set_stale)

    async def record(self, connection: Any, action: str, object: str, before: object, after: object) -> None:
        self.audit.append((action, object, before, after))


@dataclass(frozen=True)
class Books:
    """The database as its superuser sees it."""

    owner: psycopg.Connection

    def balance(self, user_id: UUID | None) -> tuple[int, int]:
        """Available and held."""
        row = self.owner.execute("SELECT available_tokens, held_tokens FROM wallet WHERE user_id = %s", [user_id])
        available, held = row.fetchone() or (None, None)
        return available, held

    def entries(self, user_id: UUID | None) -> list[tuple[str, int]]:
        """Kind and amount of each ledger entry, in order."""
        return self.owner.execute(
            "SELECT kind, amount_tokens FROM ledger_entry WHERE user_id = %s ORDER BY sequence", [user_id]
        ).fetchall()

    def status(self, reservation_id: UUID) -> str:
        row = self.owner.execute("SELECT status FROM reservation WHERE id = %s", [reservation_id]).fetchone()
        return row[0] if row else ""

    def age(self, reservation_id: UUID, seconds: float) -> None:
        """Make a reservation older; nothing else in the house can move its time."""
        self.owner.execute(
            "UPDATE reservation SET created_at = created_at - make_interval(secs => %(by)s),"
            " expires_at = expires_at - make_interval(secs => %(by)s) WHERE id = %(id)s",
            {"by": seconds, "id": reservation_id},
        )

    def run_out(self, request_id: UUID) -> None:
        """Let the vouchers of a request run out; they are frozen to everybody else."""
        with self.owner.transaction():
            self.owner.execute("SET LOCAL session_replication_role = replica")
            self.owner.execute("UPDATE voucher_batch SET expires_at = now() WHERE request_id = %s", [request_id])

    def problems(self) -> dict[str, str]:
        """What reconciliation finds, by check."""
        with self.owner.transaction():
            self.owner.execute("SELECT set_config('app.role', 'service', true)")
            return dict(self.owner.execute("SELECT name, detail FROM wallet_reconcile() WHERE problems > 0").fetchall())


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture(scope="module")
def books(owner: psycopg.Connection) -> Books:
    return Books(owner)


@pytest_asyncio.fixture
async def wallet(database: Database, seen: Seen) -> AsyncIterator[WalletService]:
    service = WalletService(database, reservation_ttl_seconds=300, meters=seen.meters())
    yield service
    await service.close()


@pytest.fixture(name="credits")
def credit_service(database: Database, seen: Seen) -> CreditService:
    return CreditService(
        database,
        Once(database),
        audit=seen.record,
        voucher_key=VOUCHER_KEY,
        callbacks={"bankily": SignedJson("bankily", PROVIDER_SECRET)},
    )


@pytest.fixture
def student(make_user: Callable[..., Caller]) -> Caller:
    """A student with 1000 tokens, who is also the caller of the test."""
    return make_user(tokens=1_000)


@pytest.fixture
def admin(make_user: Callable[..., Caller]) -> Caller:
    return make_user(role="admin")


@pytest.fixture
def issue(credits: CreditService, admin: Caller) -> Callable[..., Any]:
    """A function that issues vouchers as the admin and returns their codes."""

    async def issue(count=1, tokens=500, expires_at=None, request_id=None):
        with acting_as(admin):
            return (await credits.issue_vouchers(count, tokens, expires_at, request_id or uuid4())).codes

    return issue


@pytest.fixture(autouse=True)
def calling(request: pytest.FixtureRequest):
    """Call as the test's student, or as the system where a test has none."""
    who = request.getfixturevalue("student") if "student" in request.fixturenames else system(uuid4())
    with acting_as(who):
        yield who
