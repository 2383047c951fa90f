"""The one layer around every call, for all four shapes and for handlers that write their stream themselves.

In one pass: request id, deadline, readable bytes, caller, right, limits, validation, the handler, refusal to status,
metrics and one log line. One layer instead of five, because each costs a tenth of a bare call; each step is a small
function of its own module. Requests arrive as bytes and are parsed here: what grpc.aio answers to bytes it cannot parse
quotes the exception.
"""

import asyncio
import inspect
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter, time
from typing import Any, Final, NoReturn, Protocol, TypeAlias
from uuid import UUID

import grpc
import structlog
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from server.caller import Caller, Role, Tier, become
from server.edge import heads, status
from server.edge.address import LOOPBACK, Network, caller_address
from server.edge.limits import Limits
from server.edge.policy import DISCOVERY, Cost, EdgeError, Policy
from server.edge.validation import Check, Parse, Validation
from server.refusal import (
    DeadlineExceeded,
    Forbidden,
    NotImplementedYet,
    NotSignedIn,
    QuotaExceeded,
    Refusal,
)
from server.telemetry import calls, traces

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Answer = Callable[[Any, Context], Awaitable[Any]]
"""Takes a message, or an iterator of them, and returns one, or writes its own to the context and returns None."""

UNKNOWN: Final = "unknown"
CANCELLED: Final = "CANCELLED"
MAX_STREAMS: Final = 2_000
_SHAPES: Final = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
_GENERATED: Final = "_pb2_grpc"
_log = structlog.get_logger("server.edge")


class Identity(Protocol):
    """Whom a verified token names."""

    @property
    def user_id(self) -> UUID: ...
    @property
    def role(self) -> Role: ...
    @property
    def tier(self) -> Tier: ...
    @property
    def session_id(self) -> UUID | None: ...


Verify = Callable[[str], Awaitable[Identity]]
"""From a bearer token to an identity. Raises a Refusal; remembers what it verified, because it runs on every call."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method as the edge serves it."""

    path: str
    policy: Policy
    answer: Answer
    parse: Parse
    check: Check
    streams_requests: bool
    streams_responses: bool
    counted: calls.Counted


@dataclass(slots=True, eq=False)
class _Call:
    """What is known of one call. `deadline_at` is event loop time, perhaps infinite."""

    method: Method
    head: heads.Head
    request_id: UUID
    request_text: str
    address: str
    deadline_at: float
    started_at: float
    task: asyncio.Task[Any] | None
    span: traces.Span | None
    user_id: UUID | None = None
    code: str = "OK"
    expired: bool = False


class Middleware:
    """Wraps each handler once, when the server is built. `sweep` must be called a few times a second."""

    def __init__(
        self,
        verify: Verify,
        limits: Limits,
        validation: Validation,
        *,
        proxies: Sequence[Network] = LOOPBACK,
        max_streams: int = MAX_STREAMS,
    ) -> None:
        """Take how tokens are verified and which limits apply; `proxies` may name the caller's address."""
        self.message_bytes = validation.message_bytes
        self._verify = verify
        self._limits = limits
        self._validation = validation
        self._proxies = proxies
        self._max_streams = max_streams
        self._open_streams = 0
        self._running: set[_Call] = set()

    def wrap(self, path: str, handler: Handler, policy: Policy) -> Handler:
        """Return the handler to serve instead of `handler`. Raises EdgeError for one that is not asynchronous."""
        reader = self._validation.reader(_message_type(handler))
        return self._serve(
            Method(
                path=path,
                policy=policy,
                answer=_answer(path, handler),
                parse=reader.parse,
                check=reader.check,
                streams_requests=handler.request_streaming,
                streams_responses=handler.response_streaming,
                counted=calls.counted(path),
            ),
            handler.response_serializer,
        )

    def unknown(self) -> Handler:
        """Return the handler of every method that nobody knows."""
        stream = grpc.stream_stream_rpc_method_handler(_not_served, Empty.FromString, Empty.SerializeToString)
        return self.wrap(UNKNOWN, stream, DISCOVERY)

    def sweep(self) -> None:
        """End the calls whose time is over. Cheaper than a timer for each, which almost none would need."""
        now = asyncio.get_running_loop().time()
        for call in [call for call in self._running if call.deadline_at <= now and not call.expired]:
            call.expired = True
            if call.task is not None:
                call.task.cancel()

    def _serve(self, method: Method, serializer: Callable[[Any], bytes] | None) -> Handler:
        async def serve(raw: Any, context: Context) -> Any:
            call = self._enter(method, context)
            try:
                response = await self._answer(call, raw, context)
                return None if response is None else response.SerializeToString()
            except asyncio.CancelledError:
                await self._end_cancelled(call, context)
            except GeneratorExit:
                call.code = CANCELLED
                raise
            except Exception as error:  # noqa: BLE001 - the one place that turns any fault into a status
                await self._end(call, error, context)
            finally:
                self._leave(call)

        make = _SHAPES[method.streams_requests, method.streams_responses]
        # A stream's handler writes messages, which the transport serializes; a single one is serialized above.
        return make(serve, None, serializer if method.streams_responses else None)

    def _enter(self, method: Method, context: Context) -> _Call:
        loop = asyncio.get_running_loop()
        head = heads.read(context.invocation_metadata() or ())
        request_id, request_text = heads.request_id_and_text(head.request_id)
        call = _Call(
            method,
            head,
            request_id,
            request_text,
            caller_address(context.peer(), head.forwarded_for, self._proxies),
            loop.time() + method.policy.deadline_seconds(context.time_remaining()),
            perf_counter(),
            asyncio.current_task(loop),
            traces.begin(method.path, head.traceparent, request_id),
        )
        self._running.add(call)
        method.counted.running += 1
        return call

    async def _answer(self, call: _Call, raw: Any, context: Context) -> Message | None:
        method, policy = call.method, call.method.policy
        echo = ((heads.REQUEST_ID, call.request_text),)
        context.set_trailing_metadata(echo)
        await context.send_initial_metadata(echo)
        request = raw if method.streams_requests else method.parse(raw)
        if policy.public:
            caller = _visitor(call)
        else:
            try:
                identity = await self._verify(heads.bearer(call.head))
            except NotSignedIn:
                await self._limits.count_bad_token(method.path, call.address)
                raise
            caller = _admitted(call, identity)
        become(caller)
        await self._limits.count(method.path, policy.cost, caller)
        if policy.cost is Cost.SIGN_IN:
            async with self._limits.attempt(method.path, caller):
                return await self._run(method, request, raw, context)
        return await self._run(method, request, raw, context)

    async def _run(self, method: Method, request: Any, raw: Any, context: Context) -> Message | None:
        if method.streams_requests:
            request = self._messages(method, raw)
        else:
            method.check(request, raw)
        if not method.streams_responses:
            return await method.answer(request, context)  # type: ignore[no-any-return]
        if self._open_streams >= self._max_streams:
            raise QuotaExceeded("The server has too many open streams; try again.", retry_after_seconds=1.0)
        self._open_streams += 1
        try:
            await method.answer(request, context)
        finally:
            self._open_streams -= 1
        return None

    async def _messages(self, method: Method, raw_messages: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for raw in raw_messages:
            message = method.parse(raw)
            method.check(message, raw)
            yield message

    async def _end_cancelled(self, call: _Call, context: Context) -> NoReturn:
        """End a call that was cancelled: by us, because its time was over, or by its caller."""
        if not call.expired or call.task is None:
            call.code = CANCELLED
            raise
        call.task.uncancel()
        await self._end(call, DeadlineExceeded(), context)

    async def _end(self, call: _Call, error: Exception, context: Context) -> NoReturn:
        """End a failed call with its status. Raises AbortError, or CancelledError when nobody is there to hear it."""
        if isinstance(error, grpc.aio.AbortError):
            call.code = grpc.StatusCode.UNKNOWN.name
            raise error  # a library's servicer ended the call itself
        if isinstance(error, grpc.aio.InternalError):
            call.code = CANCELLED
            raise asyncio.CancelledError from None
        if isinstance(error, Refusal):
            code, said = status.code_of(error), status.status_of(error, call.request_id)
        else:
            code, said = grpc.StatusCode.INTERNAL, status.internal(call.request_id)
            _log.error("call_failed", method=call.method.path, request_id=str(call.request_id), exc_info=error)
        call.code = code.name
        try:
            await context.abort(code, said.message, status.trailers(said, call.request_id))
        except grpc.aio.InternalError:
            raise asyncio.CancelledError from None

    def _leave(self, call: _Call) -> None:
        method = call.method
        self._running.discard(call)
        method.counted.running -= 1
        if call.span is not None:
            traces.end(call.span, call.code)
        call.task = None
        calls.ended(
            calls.Ended(
                method.path,
                call.code,
                perf_counter() - call.started_at,
                time(),
                call.request_text,
                call.user_id,
                call.address,
                method.policy.cost is Cost.FREE,
            )
        )


def _visitor(call: _Call) -> Caller:
    return Caller(request_id=call.request_id, address=call.address, deadline_at=_deadline(call))


def _admitted(call: _Call, identity: Identity) -> Caller:
    policy = call.method.policy
    if not policy.allows(identity.role):
        raise Forbidden(allowed=", ".join(sorted(policy.roles)))
    if policy.internal and call.head.web:
        raise Forbidden("This method is not served to the web; call it on the gRPC port.")
    call.user_id = identity.user_id
    return Caller(
        identity.user_id,
        identity.role,
        identity.tier,
        call.request_id,
        call.address,
        _deadline(call),
        identity.session_id,
    )


def _deadline(call: _Call) -> float | None:
    return None if math.isinf(call.deadline_at) else call.deadline_at


async def _not_served(_: Any, __: Context) -> NoReturn:
    raise NotImplementedYet


def _message_type(handler: Handler) -> type[Message]:
    parser: Any = handler.request_deserializer
    return parser.__self__  # type: ignore[no-any-return] # FromString, bound to its class


def _answer(path: str, handler: Handler) -> Answer:
    behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    if inspect.isasyncgenfunction(behaviour):
        return _pump(behaviour)
    if inspect.iscoroutinefunction(behaviour):
        return behaviour
    if getattr(behaviour, "__module__", "").endswith(_GENERATED):
        return _not_served
    raise EdgeError(f"{path} is served by a function that is not asynchronous.")


def _pump(generator: Callable[[Any, Context], AsyncIterator[Message]]) -> Answer:
    """Write a generator's messages from our own frames: a cancel or broken write is then raised in the call's task."""

    async def pump(request: Any, context: Context) -> None:
        async with aclosing(generator(request, context)) as messages:  # type: ignore[type-var]
            async for message in messages:
                await context.write(message)

    return pump
