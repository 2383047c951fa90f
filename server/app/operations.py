"""The kinds of long-running work that this server does, and who does each."""

from collections.abc import Mapping

from server.admin.indexes import REINDEX, IndexService, Reindexing
from server.admin.operation import Runner
from server.admin.operations import Operations
from server.admin.recovery.service import runners as recovery_runners
from server.admin.store.syncs import SYNC_SOURCE
from server.admin.syncs import SyncRunner, Syncs
from server.app.recovery import Recovery
from server.app.rooms import Rooms
from server.app.stores import Stores


def furnish_operations(stores: Stores, rooms: Rooms, recovery: Recovery) -> Operations:
    """Return the operations with all their runners."""
    runners: Mapping[str, Runner] = {
        SYNC_SOURCE: SyncRunner(stores.database, rooms.sources, rooms.source_sync),
        REINDEX: _reindexing(stores, rooms),
        **recovery_runners(recovery.exports, recovery.imports, recovery.drills),
    }
    return Operations(stores.database, rooms.once, rooms.audit, rooms.queue, runners)


def furnish_syncs(stores: Stores, rooms: Rooms, operations: Operations) -> Syncs:
    """Return what starts and shows syncs of web sources."""
    return Syncs(stores.database, rooms.once, rooms.sources, operations)


def furnish_indexes(stores: Stores, rooms: Rooms, operations: Operations) -> IndexService:
    """Return what operators change vector indexes by."""
    library = rooms.library
    return IndexService(
        stores.database,
        rooms.once,
        rooms.audit,
        operations,
        rooms.corpus,
        library.catalogue,
        library.refs,
        stores.vectors,
        library.spaces,
        library.embedders,
    )


def _reindexing(stores: Stores, rooms: Rooms) -> Reindexing:
    library = rooms.library
    return Reindexing(
        stores.database,
        rooms.corpus,
        library.catalogue,
        library.refs,
        stores.vectors,
        library.filling,
        library.terms,
        library.embedders.of,
    )
