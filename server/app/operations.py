"""The kinds of long-running work that this server does, and who does each."""

from collections.abc import Mapping

from server.admin.operation import Runner
from server.admin.operations import Operations
from server.app.rooms import Rooms
from server.app.stores import Stores


def furnish_operations(stores: Stores, rooms: Rooms) -> Operations:
    """Return the operations with all their runners."""
    runners: Mapping[str, Runner] = {}
    return Operations(stores.database, rooms.once, rooms.audit, rooms.queue, runners)
