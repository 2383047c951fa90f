"""`bacmr admin …`: operators' daily work over AdminService; a person is named by e-mail address, phone number or id."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table

from bacmr.client import BacmrClient, request_id
from bacmr.v1 import access_pb2, admin_pb2, auth_pb2
from server.cli.remote import TARGET_VARIABLES, Login, signed_in

PIPE_COLUMNS = 1_000
"""What a script reads is neither cut nor folded."""
console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)
admin = typer.Typer(help="People, money, and how the server goes; for administrators.", no_args_is_help=True)
UUID_CHARACTERS = 36
Who = Annotated[str, typer.Argument(help="E-mail address, phone number or id.")]


class RoleName(StrEnum):
    """What an account may do."""

    STUDENT = "student"
    TEACHER = "teacher"
    ADMIN = "admin"
    SERVICE = "service"


class TierName(StrEnum):
    """What an account paid for."""

    FREE = "free"
    STANDARD = "standard"
    PREMIUM = "premium"


@admin.callback()
def sign_in(
    context: typer.Context,
    email: Annotated[str, typer.Option(envvar="BACMR_EMAIL", help="E-mail address to sign in with.")],
    password: Annotated[
        str, typer.Option(envvar="BACMR_PASSWORD", prompt=True, hide_input=True, help="Better in the environment.")
    ],
    target: Annotated[str, typer.Option(envvar=TARGET_VARIABLES, help="Address of the server.")] = "127.0.0.1:50051",
) -> None:
    """Take who calls, for the command that follows."""
    context.obj = Login(target, email, password)


@admin.command()
def users(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="Part of the address, number or name.")] = "",
    role: Annotated[RoleName | None, typer.Option(help="Only this role.")] = None,
) -> None:
    """List accounts, newest first, 200 at most."""
    number = _role(role) if role else access_pb2.ROLE_UNSPECIFIED

    async def work(client: BacmrClient) -> None:
        asked = admin_pb2.ListUsersRequest(query=query, role=number, page_size=200)
        _show_users((await client.admin.ListUsers(asked)).users)

    _run(context, work)


@admin.command()
def role(context: typer.Context, who: Who, role: RoleName) -> None:
    """Change what an account may do; it counts from the next refresh of its token."""

    async def work(client: BacmrClient) -> None:
        asked = admin_pb2.UpdateUserRoleRequest(
            user_id=await _user_id(client, who), role=_role(role), request_id=request_id()
        )
        _show_users([(await client.admin.UpdateUserRole(asked)).user])

    _run(context, work)


@admin.command()
def tier(context: typer.Context, who: Who, tier: TierName) -> None:
    """Change an account's tier; it counts from the next refresh of its token."""

    async def work(client: BacmrClient) -> None:
        number = access_pb2.Tier.Value(f"TIER_{tier.name}")
        asked = admin_pb2.UpdateUserTierRequest(
            user_id=await _user_id(client, who), tier=number, request_id=request_id()
        )
        _show_users([(await client.admin.UpdateUserTier(asked)).user])

    _run(context, work)


@admin.command()
def disable(context: typer.Context, who: Who) -> None:
    """Disable an account and end its sessions."""
    _run(context, lambda client: _set_disabled(client, who, disabled=True))


@admin.command()
def enable(context: typer.Context, who: Who) -> None:
    """Enable an account again."""
    _run(context, lambda client: _set_disabled(client, who, disabled=False))


@admin.command()
def adjust(
    context: typer.Context,
    who: Who,
    tokens: Annotated[int, typer.Argument(help="To add; below zero takes away: put -- before it.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger and the audit.")],
) -> None:
    """Correct a balance by a ledger entry."""

    async def work(client: BacmrClient) -> None:
        asked = admin_pb2.AdjustBalanceRequest(
            user_id=await _user_id(client, who), delta_tokens=tokens, reason=reason, request_id=request_id()
        )
        entry = (await client.admin.AdjustBalance(asked)).entry
        console.print(f"{entry.amount_tokens} tokens moved; the balance is {entry.balance_after_tokens}")

    _run(context, work)


@admin.command()
def vouchers(
    context: typer.Context,
    count: Annotated[int, typer.Argument(min=1, max=1000)],
    tokens: Annotated[int, typer.Argument(min=1, help="Tokens each.")],
    days: Annotated[int, typer.Option(min=1, help="Days until they expire.")] = 365,
) -> None:
    """Make voucher codes and print them, one per line; they are shown this once."""

    async def work(client: BacmrClient) -> None:
        expires_at = Timestamp()
        expires_at.GetCurrentTime()
        expires_at.seconds += days * 86_400
        asked = admin_pb2.IssueVouchersRequest(
            count=count, tokens=tokens, expires_at=expires_at, request_id=request_id()
        )
        for code in (await client.admin.IssueVouchers(asked)).codes:
            console.print(code, markup=False)

    _run(context, work)


@admin.command()
def audit(
    context: typer.Context,
    object: Annotated[str, typer.Option(help="Only changes to this, as in user/<id>.")] = "",
) -> None:
    """List the newest 50 changes: who, what, from what to what."""

    async def work(client: BacmrClient) -> None:
        events = (await client.admin.ListAuditEvents(admin_pb2.ListAuditEventsRequest(object=object))).events
        rows = ((_time(e.created_at), e.actor_id, e.action, e.object, f"{e.before} → {e.after}") for e in events)
        _table(("when", "who", "what", "to", "change"), rows)

    _run(context, work)


@admin.command()
def status(context: typer.Context) -> None:
    """Show stores, breakers, queues, scheduled jobs and indexes."""

    async def work(client: BacmrClient) -> None:
        _show_status(await client.admin.GetStatus(admin_pb2.GetStatusRequest()))

    _run(context, work)


@admin.command()
def trace(context: typer.Context, request: Annotated[UUID, typer.Argument(help="The request id.")]) -> None:
    """Tell what one request did, when each step began and how long it took, and what money was moved."""

    async def work(client: BacmrClient) -> None:
        story = await client.admin.GetTrace(admin_pb2.GetTraceRequest(request_id=str(request)))
        for step in story.steps:
            detail = json.dumps(json.loads(step.detail), ensure_ascii=False)
            console.print(f"{step.name:<14}{_span(step):<22}{detail}", markup=False)
        rows = ((e.kind, e.debit_account, e.credit_account, e.amount_tokens) for e in story.entries)
        _table(("entry", "debit", "credit", "tokens"), rows)

    _run(context, work)


@admin.command()
def operations(context: typer.Context, kind: Annotated[str, typer.Option(help="As in reindex.")] = "") -> None:
    """List the newest 50 long-running operations."""

    async def work(client: BacmrClient) -> None:
        found = (await client.admin.ListOperations(admin_pb2.ListOperationsRequest(kind=kind))).operations
        rows = ((o.id, o.kind, _word(o.state), o.stage, f"{o.done}/{o.total}", o.error) for o in found)
        _table(("id", "kind", "state", "stage", "done", "error"), rows)

    _run(context, work)


@admin.command()
def cancel(context: typer.Context, operation: Annotated[UUID, typer.Argument(help="Its id.")]) -> None:
    """Stop a long-running operation."""

    async def work(client: BacmrClient) -> None:
        asked = admin_pb2.CancelOperationRequest(operation_id=str(operation), request_id=request_id())
        stopped = (await client.admin.CancelOperation(asked)).operation
        console.print(f"{stopped.kind} is {_word(stopped.state)}")

    _run(context, work)


def _run(context: typer.Context, work: Callable[[BacmrClient], Awaitable[None]]) -> None:
    async def signed() -> None:
        async with signed_in(context.obj) as client:
            await work(client)

    asyncio.run(signed())


async def _user_id(client: BacmrClient, who: str) -> str:
    try:
        return str(UUID(who))
    except ValueError:
        found = (await client.admin.ListUsers(admin_pb2.ListUsersRequest(query=who, page_size=200))).users
    for user in found:
        if who.casefold() in (user.email.casefold(), user.phone):
            return user.id
    raise typer.BadParameter(f"there is no account with the address or number {who}")


async def _set_disabled(client: BacmrClient, who: str, *, disabled: bool) -> None:
    asked = admin_pb2.SetUserDisabledRequest(
        user_id=await _user_id(client, who), disabled=disabled, request_id=request_id()
    )
    _show_users([(await client.admin.SetUserDisabled(asked)).user])


def _role(role: RoleName) -> access_pb2.Role.ValueType:
    return access_pb2.Role.Value(f"ROLE_{role.name}")


def _show_users(users: Iterable[auth_pb2.User]) -> None:
    rows = (
        (
            user.id,
            user.email or user.phone,
            user.display_name,
            access_pb2.Role.Name(user.role).removeprefix("ROLE_").lower(),
            access_pb2.Tier.Name(user.tier).removeprefix("TIER_").lower(),
            "disabled" if user.disabled else "",
        )
        for user in users
    )
    _table(("id", "address", "name", "role", "tier", ""), rows)


def _show_status(status: admin_pb2.GetStatusResponse) -> None:
    console.print("serving" if status.serving else "not serving")
    stores = ((store.name, "yes" if store.healthy else "no", store.detail) for store in status.stores)
    _table(("store", "answers", "to do"), stores)
    _table(("breaker", "state"), ((b.service, ("closed", "open", "half-open")[b.state]) for b in status.breakers))
    _table(("queue", "waiting", "running", "failed"), ((q.name, q.waiting, q.running, q.failed) for q in status.queues))
    jobs = ((job.name, _time(job.last_run_at), _time(job.last_success_at), job.last_error) for job in status.jobs)
    _table(("job", "last run", "last success", "error"), jobs)
    indexes = (
        (index.name, admin_pb2.IndexState.Name(index.state).removeprefix("INDEX_STATE_").lower(), index.actual_count)
        for index in status.indexes
    )
    _table(("index", "state", "vectors"), indexes)


def _word(state: admin_pb2.OperationState.ValueType) -> str:
    return admin_pb2.OperationState.Name(state).removeprefix("OPERATION_STATE_").lower()


def _span(step: admin_pb2.TraceStep) -> str:
    """Return when a step began and how long it took, as far as that is known."""
    began = f"+{step.started_after.ToMilliseconds()} ms" if step.HasField("started_after") else ""
    return f"{began}, {step.took.ToMilliseconds()} ms" if step.HasField("took") else began


def _time(moment: Timestamp) -> str:
    return f"{moment.ToDatetime():%Y-%m-%d %H:%M:%S}" if moment.seconds else "never"


def _table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        # An id is there to be copied: it is never cut.
        table.add_column(head, overflow="fold", min_width=UUID_CHARACTERS if head == "id" else None)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    if table.row_count:
        console.print(table)
