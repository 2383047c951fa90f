"""Circuit breakers: a service that keeps failing is left alone for a while, then tried by one caller only."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self, TypeVar

from purgatory.domain.model import CLOSED, Context, OpenedState

from server import refusal
from server.models.port import ProviderFailure

T = TypeVar("T")

Ended = Callable[[BaseException | None], None]
STATES: Final = {"closed": 0, "opened": 1, "half-opened": 2}
"""What `circuit_breaker_state` shows for each state."""


class Open(refusal.StoreUnavailable):
    """The service is left alone for now; it was not called."""


def counts(error: BaseException) -> bool:
    """Say whether an exception is the service's failure; a cancelled caller or a refused request says nothing of it."""
    if isinstance(error, ProviderFailure):
        return error.transient
    return isinstance(error, refusal.StoreUnavailable | TimeoutError | OSError)


class Breakers:
    """One breaker per service name, kept in this process: a shared store would be one more thing to fail.

    `failures` in a row open it for `open_seconds`; then one call is let through (purgatory alone would let all waiting
    ones through) and its outcome decides. `on_state(service, state)` hears the first state and every change,
    `on_call(service)` each call that is made, and what it returns how that ended.
    """

    def __init__(
        self,
        failures: int = 3,
        open_seconds: float = 30.0,
        *,
        on_state: Callable[[str, int], None] = lambda service, state: None,
        on_call: Callable[[str], Ended] = lambda service: lambda error: None,
    ) -> None:
        self._failures = failures
        self._open_seconds = open_seconds
        self._on_state = on_state
        self._on_call = on_call
        self._contexts: dict[str, Context] = {}
        self._shown: dict[str, int] = {}
        self._on_trial: set[str] = set()

    def enter(self, service: str) -> "Passage":
        """Return the passage of one call, to be ended with its outcome. Raises Open."""
        context = self._contexts.get(service)
        if context is None:
            context = self._contexts[service] = Context(service, self._failures, self._open_seconds)
        if service in self._on_trial:
            raise Open(store=service)
        try:
            context.handle_new_request()
        except OpenedState:
            raise Open(store=service) from None
        trial = context.state != CLOSED
        if trial:
            self._on_trial.add(service)
        self.show(service)
        return Passage(self, service, context, self._on_call(service), trial=trial)

    async def call(self, service: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make one call through the breaker of a service. Raises Open, or what the call raises."""
        with self.enter(service):
            return await call()

    def states(self) -> dict[str, int]:
        """Return the state of every service that was called so far, as in STATES."""
        return {service: STATES[context.state] for service, context in self._contexts.items()}

    def show(self, service: str) -> None:
        """Tell the listener of a state that changed."""
        context = self._contexts[service]
        context.messages.clear()
        state = STATES[context.state]
        if self._shown.get(service) != state:
            self._shown[service] = state
            self._on_state(service, state)

    def trial_ended(self, service: str) -> None:
        """Let the next call through."""
        self._on_trial.discard(service)


class Passage:
    """One call on its way; a context manager for calls that end in one place."""

    def __init__(self, breakers: Breakers, service: str, context: Context, heard: Ended, *, trial: bool) -> None:
        self._breakers = breakers
        self._service = service
        self._context = context
        self._heard = heard
        self._trial = trial
        self._ended = False

    def end(self, error: BaseException | None = None) -> None:
        """Report the outcome of the call; only the first report counts."""
        if self._ended:
            return
        self._ended = True
        self._heard(error)
        # A call from before the breaker opened has no say in the trial that may be going on since.
        if self._trial or self._context.state == CLOSED:
            if error is None:
                self._context.handle_end_request()
            elif counts(error):
                self._context.handle_exception(error)
        if self._trial:
            self._breakers.trial_ended(self._service)
        self._breakers.show(self._service)

    def __enter__(self) -> Self:
        """Begin the call."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the call as it ended."""
        self.end(error)
