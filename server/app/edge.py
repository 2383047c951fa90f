"""The two ports, from settings: who may call, how often, over which transport, and what health follows."""

import socket
from collections.abc import Mapping, Sequence

from server.app.services import BLOBS, MILVUS, NEEDS, POSTGRES
from server.app.stores import Stores
from server.caller import Tier
from server.config import Settings
from server.edge.health import Health
from server.edge.limits import Limits, Rates
from server.edge.limits.windows import MemoryWindows, RedisWindows, Windows
from server.edge.middleware import Middleware, Verify
from server.edge.policy import EdgeError
from server.edge.server import EdgeServer, Service, Tls
from server.edge.validation import Validation


class Edge:
    """The gRPC port and the HTTP port of one process."""

    def __init__(self, settings: Settings, stores: Stores, verify: Verify) -> None:
        self._settings = settings
        self._stores = stores
        self._verify = verify
        probes = {
            POSTGRES: stores.database.healthy,
            MILVUS: stores.vectors.healthy,
            BLOBS: stores.blobs.healthy,
        }
        self._health = Health(probes, NEEDS)
