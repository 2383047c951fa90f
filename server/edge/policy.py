"""Who may call a method, what it counts against and how long it may take, read from the contract itself.

Every RPC of ours carries `option (bacmr.v1.access)`; a method without one is refused at start-up, so that nobody adds
an RPC that anyone may call by forgetting to say who may.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from google.protobuf.descriptor import ServiceDescriptor

from bacmr.v1 import access_pb2
from server.caller import Role

DEFAULT_DEADLINE_SECONDS: Final = 30.0
MAX_DEADLINE_SECONDS: Final = 60.0


class EdgeError(Exception):
    """The edge cannot be built or started; the message is one sentence for the operator."""


class Cost(Enum):
    """Which rate limit a call counts against."""

    FREE = auto()
    ORDINARY = auto()
    PAID = auto()
    SIGN_IN = auto()


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of one method. Deadlines are seconds; an infinite maximum means the caller's own is kept."""

    public: bool = False
    roles: frozenset[Role] = frozenset()
    cost: Cost = Cost.ORDINARY
    internal: bool = False
    default_deadline_seconds: float = DEFAULT_DEADLINE_SECONDS
    max_deadline_seconds: float = MAX_DEADLINE_SECONDS

    def allows(self, role: Role) -> bool:
        """Say whether a signed-in caller of this role may call; no roles named means every one."""
        return not self.roles or role in self.roles

    def deadline_seconds(self, asked_seconds: float | None) -> float:
        """Return how long a call may take when its caller asked for `asked_seconds` (None: for nothing)."""
        if asked_seconds is None:
            return self.default_deadline_seconds
        return min(asked_seconds, self.max_deadline_seconds)


PROBE: Final = Policy(public=True, cost=Cost.FREE, default_deadline_seconds=math.inf, max_deadline_seconds=math.inf)
"""Health and its watchers: anyone, uncounted, as long as they like."""
DISCOVERY: Final = Policy(public=True, default_deadline_seconds=300.0, max_deadline_seconds=3600.0)
"""Reflection: anyone, counted like any call."""

_ROLES: Final[Mapping[int, Role]] = {
    access_pb2.ROLE_STUDENT: Role.STUDENT,
    access_pb2.ROLE_TEACHER: Role.TEACHER,
    access_pb2.ROLE_ADMIN: Role.ADMIN,
    access_pb2.ROLE_SERVICE: Role.SERVICE,
}
_COSTS: Final[Mapping[int, Cost]] = {
    access_pb2.COST_UNSPECIFIED: Cost.ORDINARY,
    access_pb2.COST_PAID: Cost.PAID,
    access_pb2.COST_SIGN_IN: Cost.SIGN_IN,
}


def policies(services: Iterable[ServiceDescriptor]) -> dict[str, Policy]:
    """Return the policy of every method by its path, `/package.Service/Method`. Raises EdgeError for one without."""
    found = {}
    for service in services:
        for method in service.methods:
            path = f"/{service.full_name}/{method.name}"
            options = method.GetOptions()
            if not options.HasExtension(access_pb2.access):
                raise EdgeError(f"{path} carries no option (bacmr.v1.access) in its proto.")
            found[path] = _policy(options.Extensions[access_pb2.access])
    return found


def _policy(access: access_pb2.Access) -> Policy:
    return Policy(
        public=access.public,
        roles=frozenset(_ROLES[role] for role in access.roles),
        cost=_COSTS[access.cost],
        internal=access.internal,
        default_deadline_seconds=access.default_deadline_seconds or DEFAULT_DEADLINE_SECONDS,
        max_deadline_seconds=access.max_deadline_seconds or MAX_DEADLINE_SECONDS,
    )
