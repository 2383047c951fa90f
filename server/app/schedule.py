"""What runs by itself: queued tasks and the clock's jobs. Each only calls a service."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from server.admin.indexes import IndexService
from server.admin.operations import RUN_OPERATION, Operations
from server.admin.service import AdminService
from server.admin.syncs import Syncs
from server.app.recovery import Recovery
from server.app.rooms import INGEST, Rooms
from server.caller import acting_as, system
from server.jobs.schedule import Periodic
from server.jobs.task import Arguments, Task


def tasks(rooms: Rooms, operations: Operations) -> list[Task]:
    """Return what the queue can run."""

    async def ingest(job_id: str) -> None:
        await rooms.pipeline.run(UUID(job_id))

    async def run_operation(operation_id: str) -> None:
        await operations.run(UUID(operation_id))

    async def give_up_operation(arguments: Arguments, error: BaseException) -> None:
        await operations.give_up(UUID(arguments["operation_id"]), error)

    return [Task(INGEST, ingest), Task(RUN_OPERATION, run_operation, given_up=give_up_operation)]


def long_schedule(recovery: Recovery) -> list[Periodic]:
    """Return the clock's jobs that run among the operations."""
    export = Periodic("export_data", "0 3 * * 0", _as_system(recovery.exports.export_scheduled))
    # A process without the owner's login leaves it to those that have it.
    return [export] if recovery.exports_by_itself else []


def schedule(rooms: Rooms, admin: AdminService, syncs: Syncs, indexes: IndexService) -> list[Periodic]:
    """Return the clock's other jobs; times of cron lines are UTC, which is Mauritania's time."""

    async def sweep_vectors() -> None:
        await indexes.settle()
        await rooms.library.refs.sweep()

    return [
        Periodic("expire_reservations", 60, _as_system(rooms.wallet.expire_overdue)),
        Periodic("reconcile_wallets", "0 2 * * *", _as_system(admin.reconcile)),
        Periodic("recover_answers", 15, _as_system(rooms.retrieval.recovery.recover)),
        Periodic("forget_events", 86_400, _as_system(rooms.retrieval.recovery.forget)),
        Periodic("recover_quizzes", 60, _as_system(rooms.quiz_maker.recover)),
        Periodic("recover_ingestion", 60, _as_system(rooms.ingestion.recover_stalled)),
        Periodic("sync_sources", 60, _as_system(syncs.start_due)),
        Periodic("merge_corpus_statistics", 60, _as_system(rooms.corpus.merge_statistics)),
        Periodic("sweep_uploads", 3_600, _as_system(rooms.uploads.sweep_orphans)),
        Periodic("sweep_removals", 300, _as_system(rooms.removal.sweep)),
        Periodic("sweep_idempotency", 3_600, _as_system(rooms.once.sweep)),
        Periodic("sweep_vectors", 86_400, _as_system(sweep_vectors)),
    ]


def _as_system(run: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
    async def job() -> object:
        with acting_as(system()):
            return await run()

    return job
