"""Connections to PostgreSQL: transactions that carry the caller for row-level security, and bare pooled sessions."""

import asyncio
import math
import select
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from server import caller
from server.caller import Caller
from server.database.errors import translated, unavailable
from server.database.session import Session
from server.refusal import DeadlineExceeded, StoreUnavailable

Connection = AsyncConnection
"""An open transaction, as services pass it on to stores."""

PREPARE_THRESHOLD = 2
"""Uses of a statement on a connection before psycopg prepares it on the server."""
POOL_TIMEOUT_SECONDS = 10.0
CONNECT_TIMEOUT_SECONDS = 5
HEALTH_TIMEOUT_SECONDS = 2.0
BACKGROUND_STATEMENT_SECONDS = 600.0
"""Limit of one statement of work that has no deadline."""
SESSION_OPTIONS = "-c role=bacmr_app -c search_path=bacmr -c idle_in_transaction_session_timeout=60000 -c timezone=UTC"
"""Whatever login the address names, the session acts as bacmr_app, which row-level security binds."""


def _untraced(_: str) -> AbstractContextManager[None]:
    return nullcontext()


class Database:
    """The server's PostgreSQL. Refuses with StoreUnavailable, DeadlineExceeded and Conflict; other errors are bugs."""

    def __init__(
        self, url: str, pool_size: int = 16, step: Callable[[str], AbstractContextManager[None]] = _untraced
    ) -> None:
        """Take a `postgresql://…` address; `pool_size` bounds the transactions, half of it the sessions.

        Each use of a connection is a `step`, by name.
        """
        self._step = step
        address = make_url(url).set(drivername="postgresql+psycopg")
        self._attempts = pool_size + 1
        self._engine = create_async_engine(
            address,
            # The driver sends no BEGIN of its own: ours goes out in one round trip with the caller's settings.
            isolation_level="AUTOCOMMIT",
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_SECONDS,
            # What a failed statement was given may be a student's question; errors are logged.
            hide_parameters=True,
            connect_args={
                "options": SESSION_OPTIONS,
                "prepare_threshold": PREPARE_THRESHOLD,
                "connect_timeout": CONNECT_TIMEOUT_SECONDS,
                "application_name": "bacmr",
            },
        )
        self._sessions = AsyncConnectionPool(
            address.set(drivername="postgresql").render_as_string(hide_password=False),
            min_size=1,
            max_size=max(2, pool_size // 2),
            connection_class=Session,
            open=False,
            check=_check_alive,
            timeout=POOL_TIMEOUT_SECONDS,
            name="bacmr-sessions",
            kwargs={
                "autocommit": True,
                "options": SESSION_OPTIONS,
                "prepare_threshold": PREPARE_THRESHOLD,
                "connect_timeout": CONNECT_TIMEOUT_SECONDS,
                "application_name": "bacmr-sessions",
            },
        )

    async def open(self) -> None:
        """Connect; raises StoreUnavailable when the server does not answer within 10 s."""
        with translated():
            await self._sessions.open(wait=True, timeout=POOL_TIMEOUT_SECONDS)

    async def close(self) -> None:
        """Close all connections."""
        await self._sessions.close()
        await self._engine.dispose()

    async def healthy(self) -> bool:
        """Say whether the server answers within 2 s."""
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT_SECONDS), self.session() as session:
                await session.execute("SELECT 1")
        except (TimeoutError, StoreUnavailable):
            return False
        return True

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Run BEGIN..COMMIT as the current caller; any exception rolls back.

        The caller's id, role and request id are set for row-level security, and a statement may take what is left
        until the caller's deadline.
        """
        who = caller.current()
        with self._step("postgresql.transaction"), translated():
            connection = await self._begin(who)
            try:
                yield connection
                await _commit(connection)
            except BaseException:
                # Rolls back on the wire, which a cancel must not interrupt; after a commit there is nothing to send.
                await asyncio.shield(asyncio.ensure_future(connection.close()))
                raise
            await connection.close()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Lend an autocommit connection without any caller set: for single SECURITY DEFINER calls on hot paths."""
        with self._step("postgresql.call"), translated():
            # Not the pool's `connection`, which would end a transaction that these never have.
            session = await self._sessions.getconn()
            try:
                yield session
            finally:
                await self._sessions.putconn(session)

    async def _begin(self, who: Caller) -> AsyncConnection:
        """Open a transaction; connections that died in the pool are replaced, since nothing has been done on them."""
        _require_time(who)
        for _ in range(self._attempts):
            try:
                async with asyncio.timeout_at(who.deadline_at):
                    connection = await self._engine.connect()
            except TimeoutError:
                raise DeadlineExceeded from None
            driver = _driver(connection)
            try:
                await driver.execute(_opening(who))
            except BaseException as error:
                await connection.invalidate()
                await connection.close()
                if not isinstance(error, psycopg.OperationalError) or not driver.closed:
                    raise
            else:
                return connection
        raise unavailable()


async def _check_alive(session: Session) -> None:
    """Raise when the server hung up. It is asked only when there is something to read, which is rare on idle ones."""
    readable = select.poll()
    readable.register(session.pgconn.socket, select.POLLIN)
    if readable.poll(0):
        await AsyncConnectionPool.check_connection(session)


def _driver(connection: AsyncConnection) -> psycopg.AsyncConnection:
    driver = connection.sync_connection and connection.sync_connection.connection.driver_connection
    if not isinstance(driver, psycopg.AsyncConnection):
        raise TypeError("the engine does not use psycopg")
    return driver


async def _commit(connection: AsyncConnection) -> None:
    """Commit on the driver's own connection: SQLAlchemy takes it for one that commits each statement."""
    driver = _driver(connection)
    if driver.info.transaction_status == TransactionStatus.INERROR:
        # PostgreSQL would answer this COMMIT with a silent ROLLBACK.
        raise RuntimeError("a failed statement was swallowed inside a transaction; nothing was committed")
    await driver.commit()


def _seconds_left(who: Caller) -> float:
    if who.deadline_at is None:
        return BACKGROUND_STATEMENT_SECONDS
    return who.deadline_at - asyncio.get_running_loop().time()


def _require_time(who: Caller) -> None:
    if _seconds_left(who) <= 0:
        raise DeadlineExceeded


def _opening(who: Caller) -> bytes:
    """Return BEGIN and the caller's settings as one message; every value is a UUID, an enum or a number."""
    settings = {
        "app.user_id": who.user_id or "",
        "app.role": who.role.value,
        "app.request_id": who.request_id,
        # Zero would mean no limit.
        "statement_timeout": max(1, math.ceil(_seconds_left(who) * 1000)),
    }
    calls = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())
    return f"BEGIN; SELECT {calls}".encode()
