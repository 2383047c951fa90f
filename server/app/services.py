"""The six services as the edge serves them, and what operators see of the whole."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version

from bacmr.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    auth_pb2,
    auth_pb2_grpc,
    ingestion_pb2,
    ingestion_pb2_grpc,
    quiz_pb2,
    quiz_pb2_grpc,
    retrieval_pb2,
    retrieval_pb2_grpc,
    wallet_pb2,
    wallet_pb2_grpc,
)
from server.admin.indexes import IndexService
from server.admin.operations import Operations
from server.admin.overview import Overview, ServerInfo
from server.admin.recovery.service import Imports
from server.admin.service import AdminService
from server.admin.servicer import AdminServicer
from server.admin.syncs import Syncs
from server.app.models import Models
from server.app.rooms import Rooms
from server.auth.servicer import AuthServicer
from server.config import Settings
from server.corpus.terms import advice
from server.database import migrate
from server.edge.server import Service
from server.ingestion.servicer import IngestionServicer
from server.jobs.queue import DEFAULT_QUEUE
from server.jobs.store import QueueDepth
from server.quiz.servicer import QuizServicer
from server.retrieval.servicer import RetrievalServicer
from server.telemetry.metrics.export import Figures
from server.wallet.servicer import WalletServicer

POSTGRES, MILVUS, BLOBS = "postgresql", "milvus", "blobs"
NEEDS: Mapping[str, Sequence[str]] = {
    "bacmr.v1.AuthService": (POSTGRES,),
    "bacmr.v1.WalletService": (POSTGRES,),
    "bacmr.v1.RetrievalService": (POSTGRES,),
    "bacmr.v1.QuizService": (POSTGRES,),
    "bacmr.v1.IngestionService": (POSTGRES, MILVUS, BLOBS),
    "bacmr.v1.AdminService": (POSTGRES,),
}
"""What a service cannot do without. Answers and quizzes go on without Milvus, by full-text search."""


def services(
    rooms: Rooms,
    admin: AdminService,
    operations: Operations,
    syncs: Syncs,
    indexes: IndexService,
    imports: Imports,
    overview: Overview,
) -> list[Service]:
    """Return the servicers with what registers and describes them."""
    retrieval, directory = rooms.retrieval, rooms.auth.directory
    return [
        Service(
            auth_pb2_grpc.add_AuthServiceServicer_to_server,
            AuthServicer(rooms.auth.service),
            auth_pb2.DESCRIPTOR.services_by_name["AuthService"],
        ),
        Service(
            wallet_pb2_grpc.add_WalletServiceServicer_to_server,
            WalletServicer(rooms.wallet, rooms.credit),
            wallet_pb2.DESCRIPTOR.services_by_name["WalletService"],
        ),
        Service(
            retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server,
            RetrievalServicer(retrieval.searches, retrieval.answers, retrieval.conversations),
            retrieval_pb2.DESCRIPTOR.services_by_name["RetrievalService"],
        ),
        Service(
            quiz_pb2_grpc.add_QuizServiceServicer_to_server,
            QuizServicer(rooms.quizzes),
            quiz_pb2.DESCRIPTOR.services_by_name["QuizService"],
        ),
        Service(
            ingestion_pb2_grpc.add_IngestionServiceServicer_to_server,
            IngestionServicer(rooms.ingestion, rooms.uploads, rooms.corpus),
            ingestion_pb2.DESCRIPTOR.services_by_name["IngestionService"],
        ),
        Service(
            admin_pb2_grpc.add_AdminServiceServicer_to_server,
            AdminServicer(
                admin,
                directory,
                rooms.credit,
                rooms.sources,
                syncs,
                indexes,
                imports,
                operations,
                rooms.audit,
                overview,
            ),
            admin_pb2.DESCRIPTOR.services_by_name["AdminService"],
        ),
    ]


def overview(
    settings: Settings,
    models: Models,
    rooms: Rooms,
    serving: Callable[[], bool],
    store_health: Callable[[], Mapping[str, bool]],
    figures: Figures,
    indexes: IndexService,
) -> Overview:
    """Return what AdminService tells of the server."""

    async def as_json() -> str:
        return json.dumps(await figures.snapshot())

    async def queues() -> Sequence[QueueDepth]:
        # An empty queue has no row that could be counted, and is shown all the same.
        depths = {depth.queue: depth for depth in await rooms.queue.depths()}
        return list(({DEFAULT_QUEUE: QueueDepth(DEFAULT_QUEUE, 0, 0, 0, 0.0)} | depths).values())

    async def embedding_model() -> str:
        space = await rooms.library.spaces.live()
        return space.embedder.name if space else ""

    async def to_do() -> dict[str, str]:
        outdated = await rooms.library.terms.outdated()
        return {POSTGRES: advice(outdated)} if outdated else {}

    return Overview(
        info=ServerInfo(
            version=version("bacmr"),
            schema_revision=migrate.head(),
            model_chain=tuple(state.name for state in models.breakers()),
            limits=_limits(settings),
            started_at=datetime.now(UTC),
        ),
        serving=serving,
        stores=store_health,
        breakers=models.guards.states,
        queues=queues,
        jobs=rooms.queue.runs,
        indexes=indexes.statuses,
        to_do=to_do,
        embedding_model=embedding_model,
        metrics=as_json,
    )


def _limits(settings: Settings) -> dict[str, int]:
    return {
        name: value
        for name, value in settings.model_dump().items()
        if name.startswith(("limits_", "results_")) and isinstance(value, int)
    }
