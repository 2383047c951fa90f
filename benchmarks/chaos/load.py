"""Callers of every kind, what came of each of their calls, and the books they keep of their own money."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import grpc

from bacmr.client import BacmrClient, request_id
from bacmr.refusals import refusal
from bacmr.v1 import access_pb2, admin_pb2, ingestion_pb2, retrieval_pb2, wallet_pb2
from benchmarks.chaos.system import OPERATOR, WELCOME_TOKENS, System

QUESTION = "Quel est le principe d'inertie énoncé par Newton ?"
LESSON = Path(__file__).parents[2] / "samples" / "physique_newton.md"
NAMESPACE = "grade-12"
PATIENCE_SECONDS = 15.0
"""Deadline of a call."""
PERSISTENCE_SECONDS = 90.0
"""How long a caller asks again what became of its money."""
ASKERS, SEARCHERS, READERS, SPENDERS = 4, 2, 2, 2
T = TypeVar("T")
DONE = (ingestion_pb2.JOB_STATE_READY, ingestion_pb2.JOB_STATE_FAILED, ingestion_pb2.JOB_STATE_CANCELLED)


@dataclass(frozen=True, slots=True)
class Call:
    """A call that ended; `error` is empty when it did what it should. Times are of the monotonic clock."""

    kind: str
    started_at: float
    ended_at: float
    error: str


@dataclass(slots=True)
class Account:
    """One student: what it was charged as far as it was told, and the answers of which it was not told."""

    client: BacmrClient
    user_id: str
    charged: dict[str, int] = field(default_factory=dict)
    untold: set[str] = field(default_factory=set)


class Load:
    """Runs callers until told to stop."""

    def __init__(self, system: System) -> None:
        self.calls: list[Call] = []
        self.accounts: list[Account] = []
        self._system = system
        self._stack = AsyncExitStack()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Sign everybody up, ingest a lesson and begin to call."""
        self.operator = await self._signed_in(OPERATOR, self._system.password)
        await self._ingest()
        for _ in range(ASKERS + SEARCHERS + READERS + SPENDERS):
            client = await self._stack.enter_async_context(BacmrClient(self._system.grpc))
            user = await client.sign_up(f"{uuid4()}@example.org", "a long enough password")
            self.accounts.append(Account(client, user.id))
        service = await self._service()
        people = iter(self.accounts)
        for _ in range(ASKERS):
            self._repeat("Ask", self._asking(next(people)), 0.3)
        for _ in range(SEARCHERS):
            self._repeat("Search", self._searching(next(people)), 0.1)
        for _ in range(READERS):
            self._repeat("GetBalance", self._reading(next(people)), 0.05)
        for _ in range(SPENDERS):
            self._repeat("Reserve, Finalize", self._spending(service, next(people)), 0.1)
        self._repeat("Ingest", self._ingest, 0.5)

    async def stop(self) -> None:
        """Let everybody end what they are at."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        """Close all channels."""
        await self._stack.aclose()

    async def discrepancies(self) -> list[str]:
        """Return where the server's books are wrong, by its own checks or by what callers were told."""
        found = []
        for account in self.accounts:
            for asked in account.untold:
                await self._ask(account, asked)
            told = WELCOME_TOKENS - sum(account.charged.values())
            balance = await self._settled_balance(account)
            if (balance.available_tokens, balance.held_tokens) != (told, 0):
                found.append(f"{account.user_id}: {balance.available_tokens} available, {told} as it was told")
            report = await account.client.wallet.VerifyLedger(wallet_pb2.VerifyLedgerRequest())
            found += [f"{account.user_id}: {check.name}" for check in report.checks if not check.ok]
        reconciled = await self.operator.admin.ReconcileWallets(admin_pb2.ReconcileWalletsRequest())
        return found + [f"reconciliation: {check.name}" for check in reconciled.checks if not check.ok]

    async def _settled_balance(self, account: Account) -> wallet_pb2.GetBalanceResponse:
        """Return the balance once nothing is held: holds of killed processes are settled when they are overdue."""
        ends_at = time.monotonic() + PERSISTENCE_SECONDS
        while True:
            balance = await account.client.wallet.GetBalance(wallet_pb2.GetBalanceRequest())
            if not balance.held_tokens or time.monotonic() > ends_at:
                return balance
            await asyncio.sleep(1)

    async def _signed_in(self, email: str, password: str) -> BacmrClient:
        client = await self._stack.enter_async_context(BacmrClient(self._system.grpc))
        await client.sign_in(email, password)
        return client

    async def _service(self) -> BacmrClient:
        email, password = f"{uuid4()}@example.org", "a long enough password"
        client = await self._stack.enter_async_context(BacmrClient(self._system.grpc))
        user = await client.sign_up(email, password)
        await self.operator.admin.UpdateUserRole(
            admin_pb2.UpdateUserRoleRequest(user_id=user.id, role=access_pb2.ROLE_SERVICE, request_id=request_id())
        )
        await client.sign_in(email, password)
        return client

    def _repeat(self, kind: str, call: Callable[[], Awaitable[str | None]], pause_seconds: float) -> None:
        async def repeat() -> None:
            while not self._stopping.is_set():
                await self._try(kind, call)
                await asyncio.sleep(pause_seconds)

        self._tasks.append(asyncio.create_task(repeat(), name=kind))

    async def _try(self, kind: str, call: Callable[[], Awaitable[str | None]]) -> bool:
        """Make a call and note what came of it; a text that it returns says what was wrong."""
        started_at, error = time.monotonic(), ""
        try:
            error = await call() or ""
        except grpc.aio.AioRpcError as failed:
            said = refusal(failed)
            error = f"{said.code.name} {said.reason}".strip()
        self.calls.append(Call(kind, started_at, time.monotonic(), error))
        return not error

    def _asking(self, account: Account) -> Callable[[], Awaitable[str]]:
        async def call() -> str:
            return await self._ask(account, request_id())

        return call

    async def _ask(self, account: Account, asked: str) -> str:
        account.untold = account.untold | {asked}
        ending = ""
        async for event in account.client.ask(QUESTION, request=retrieval_pb2.AskRequest(request_id=asked)):
            if event.HasField("completed"):
                account.charged[asked] = event.completed.receipt.charged_tokens
                account.untold = account.untold - {asked}
                ending = retrieval_pb2.AskFinishReason.Name(event.completed.finish_reason)
        return "" if ending.endswith(("_STOP", "_QUOTED")) else ending or "no end"

    def _searching(self, account: Account) -> Callable[[], Awaitable[str]]:
        async def call() -> str:
            request = retrieval_pb2.SearchRequest(query=f"{QUESTION} {uuid4()}")
            found = await account.client.retrieval.Search(request, timeout=PATIENCE_SECONDS)
            return "" if found.passages else "nothing found"

        return call

    def _reading(self, account: Account) -> Callable[[], Awaitable[None]]:
        async def call() -> None:
            await account.client.wallet.GetBalance(wallet_pb2.GetBalanceRequest(), timeout=PATIENCE_SECONDS)

        return call

    def _spending(self, service: BacmrClient, account: Account) -> Callable[[], Awaitable[None]]:
        async def call() -> None:
            reserving = wallet_pb2.ReserveRequest(
                user_id=account.user_id, estimate_tokens=100, purpose="chaos", request_id=request_id()
            )
            held = await self._persist(lambda: service.wallet.Reserve(reserving, timeout=PATIENCE_SECONDS))
            finalizing = wallet_pb2.FinalizeRequest(
                reservation_id=held.reservation.id, actual_tokens=70, request_id=request_id()
            )
            done = await self._persist(lambda: service.wallet.Finalize(finalizing, timeout=PATIENCE_SECONDS))
            account.charged[held.reservation.id] = done.receipt.charged_tokens

        return call

    async def _persist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Ask again under the same request id until the answer is known, as who handles money must."""
        ends_at = time.monotonic() + PERSISTENCE_SECONDS
        while True:
            started_at = time.monotonic()
            try:
                return await call()
            except grpc.aio.AioRpcError as failed:
                said = refusal(failed)
                unknown = said.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
                if not unknown or time.monotonic() > ends_at:
                    raise
                error = f"{said.code.name} {said.reason}".strip()
                self.calls.append(Call("Reserve, Finalize", started_at, time.monotonic(), error))
                await asyncio.sleep(0.5)

    async def _ingest(self) -> str:
        """Upload a lesson that nobody has seen and wait until it can be searched."""
        file = self._system.folder / f"{uuid4()}.md"
        file.write_text(f"# {uuid4()}\n\n{LESSON.read_text()}")
        try:
            document = await self.operator.upload(file, "text/markdown")
        finally:
            file.unlink()
        creating = ingestion_pb2.CreateIngestionJobRequest(
            document_id=document.id, namespace=NAMESPACE, subject="physics", grade="12", request_id=request_id()
        )
        job = (await self.operator.ingestion.CreateIngestionJob(creating, timeout=PATIENCE_SECONDS)).job
        ends_at = time.monotonic() + PERSISTENCE_SECONDS
        asking = ingestion_pb2.GetIngestionJobRequest(job_id=job.id)
        while job.state not in DONE and time.monotonic() < ends_at:
            await asyncio.sleep(0.2)
            job = (await self.operator.ingestion.GetIngestionJob(asking, timeout=PATIENCE_SECONDS)).job
        return "" if job.state == ingestion_pb2.JOB_STATE_READY else f"job {job.failure_reason or 'not done'}"
