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
from time import perf_counter
from typing import Any, Final, NoReturn, Protocol, TypeAlias
from uuid import UUID

import grpc
import structlog
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from server.caller import Caller, Role, Tier, acting_as
from server.edge import heads, status
from server.edge.address import LOOPBACK, Network, caller_address
from server.edge.limits import Limits
from server.edge.policy import DISCOVERY, Cost, EdgeError, Policy
from server.edge.validation import Validation, parse
from server.refusal import DeadlineExceeded, Forbidden, NotImplementedYet, QuotaExceeded, Refusal
from server.telemetry import logs, metrics, traces

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Answer = Callable[[Any, Context], Awaitable[Any]]
"""Takes a message, or an iterator of them, and returns one, or writes its own to the context and returns None."""

UNKNOWN: Final = "unknown"
MAX_STREAMS: Final = 2_000
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
    message_type: type[Message]
    streams_requests: bool
    streams_responses: bool


@dataclass(slots=True)
class _Call:
    """What is known of one running call."""

    method: Method
    context: Context
    head: heads.Head
    caller: Caller
    started_at: float
    span: traces.Span | None
    code: str = "OK"


class Middleware:
    """Wraps each handler once, when the server is built."""

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
        self._verify = verify
        self._limits = limits
        self._validation = validation
        self._proxies = proxies
        self._max_streams = max_streams
        self._open_streams = 0

    def wrap(self, path: str, handler: Handler, policy: Policy) -> Handler:
        """Return the handler to serve instead of `handler`. Raises EdgeError for one that is not asynchronous."""
        method = Method(
            path=path,
            policy=policy,
            answer=_answer(path, handler),
            message_type=_message_type(handler),
            streams_requests=handler.request_streaming,
            streams_responses=handler.response_streaming,
        )
        return self._serve(method, handler.response_serializer)

    def unknown(self) -> Handler:
        """Return the handler of every method that nobody knows."""
        return self._serve(Method(UNKNOWN, DISCOVERY, _not_served, Empty, True, True), None)

    def _serve(self, method: Method, serializer: Callable[[Any], bytes] | None) -> Handler:
        async def call(raw: Any, context: Context) -> Any:
            return await self._call(method, raw, context)

        if method.streams_responses:
            make = (
                grpc.stream_stream_rpc_method_handler
                if method.streams_requests
                else (grpc.unary_stream_rpc_method_handler)
            )
            return make(call, None, serializer)
        make_one = (
            grpc.stream_unary_rpc_method_handler if method.streams_requests else (grpc.unary_unary_rpc_method_handler)
        )
        return make_one(call, None, None)

    async def _call(self, method: Method, raw: Any, context: Context) -> bytes | None:
        call = self._enter(method, context)
        try:
            with acting_as(call.caller):
                response = await self._answer(call, raw)
            return None if response is None else response.SerializeToString()
        except (asyncio.CancelledError, GeneratorExit):
            call.code = "DEADLINE_EXCEEDED" if _is_late(call.caller) else "CANCELLED"
            raise
        except Exception as error:  # noqa: BLE001 - the one place that turns any fault into a status
            await self._end(call, error)
        finally:
            self._leave(call)

    def _enter(self, method: Method, context: Context) -> _Call:
        metrics.call_started(method.path)
        head = heads.read(context.invocation_metadata() or ())
        seconds = method.policy.deadline_seconds(context.time_remaining())
        caller = Caller(
            request_id=heads.request_id(head.request_id),
            address=caller_address(context.peer(), head.forwarded_for, self._proxies),
            deadline_at=None if math.isinf(seconds) else asyncio.get_running_loop().time() + seconds,
        )
        span = traces.begin(method.path, head.traceparent, caller.request_id)
        return _Call(method, context, head, caller, perf_counter(), span)

    async def _answer(self, call: _Call, raw: Any) -> Message | None:
        method, visitor = call.method, call.caller
        if _is_late(visitor):
            raise DeadlineExceeded
        async with asyncio.timeout_at(visitor.deadline_at):
            await _send_request_id(call)
            request = raw if method.streams_requests else parse(method.message_type, raw)
            if method.policy.public:
                return await self._admit(call, request)
            call.caller = await self._identify(call)
            with acting_as(call.caller):
                return await self._admit(call, request)

    async def _identify(self, call: _Call) -> Caller:
        policy, visitor = call.method.policy, call.caller
        identity = await self._verify(heads.bearer(call.head))
        if not policy.allows(identity.role) or (policy.internal and call.head.web):
            raise Forbidden
        return Caller(
            user_id=identity.user_id,
            role=identity.role,
            tier=identity.tier,
            request_id=visitor.request_id,
            address=visitor.address,
            deadline_at=visitor.deadline_at,
            session_id=identity.session_id,
        )

    async def _admit(self, call: _Call, request: Any) -> Message | None:
        method = call.method
        await self._limits.count(method.path, method.policy.cost, call.caller)
        if method.policy.cost is Cost.SIGN_IN:
            async with self._limits.attempt(method.path, call.caller, request):
                return await self._run(call, request)
        return await self._run(call, request)

    async def _run(self, call: _Call, request: Any) -> Message | None:
        method = call.method
        if method.streams_requests:
            request = self._messages(method, request)
        else:
            self._validation.check(request)
        if not method.streams_responses:
            return await method.answer(request, call.context)  # type: ignore[no-any-return]
        if self._open_streams >= self._max_streams:
            raise QuotaExceeded("The server has too many open streams; try again.", retry_after_seconds=1.0)
        self._open_streams += 1
        try:
            await method.answer(request, call.context)
        finally:
            self._open_streams -= 1
        return None

    async def _messages(self, method: Method, raw_messages: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for raw in raw_messages:
            message = parse(method.message_type, raw)
            self._validation.check(message)
            yield message

    async def _end(self, call: _Call, error: Exception) -> NoReturn:
        """End a failed call with its status. Raises AbortError, or CancelledError when nobody is there to hear it."""
        request_id = call.caller.request_id
        if isinstance(error, grpc.aio.AbortError):
            raise EdgeError(f"{call.method.path} ends its call itself; it should raise a Refusal.") from error
        if isinstance(error, TimeoutError) and _is_late(call.caller):
            error = DeadlineExceeded()
        if isinstance(error, grpc.aio.InternalError):
            call.code = "CANCELLED"
            raise asyncio.CancelledError from None
        if isinstance(error, Refusal):
            code, said = status.code_of(error), status.status_of(error, request_id)
        else:
            code, said = grpc.StatusCode.INTERNAL, status.internal(request_id)
            _log.error("call_failed", method=call.method.path, request_id=str(request_id), exc_info=error)
        call.code = code.name
        try:
            await call.context.abort(code, said.message, status.trailers(said, request_id))
        except grpc.aio.InternalError:
            raise asyncio.CancelledError from None

    def _leave(self, call: _Call) -> None:
        seconds = perf_counter() - call.started_at
        method, caller = call.method, call.caller
        metrics.record_call(method.path, call.code, seconds)
        if call.span is not None:
            traces.end(call.span, call.code)
        if method.policy.cost is not Cost.FREE:
            logs.call(
                method.path,
                call.code,
                seconds,
                request_id=str(caller.request_id),
                user_id=str(caller.user_id or ""),
                address=caller.address,
            )


async def _send_request_id(call: _Call) -> None:
    echo = ((heads.REQUEST_ID, str(call.caller.request_id)),)
    call.context.set_trailing_metadata(echo)
    await call.context.send_initial_metadata(echo)


def _is_late(caller: Caller) -> bool:
    return caller.deadline_at is not None and asyncio.get_running_loop().time() >= caller.deadline_at


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
