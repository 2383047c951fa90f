"""Traces: one span per call on the server and per step below it, sent by OTLP when an endpoint is set.

Off, and free of cost, until `configure` is called; the OpenTelemetry packages are an optional extra. A span's status
follows the call's: refusals of the caller's making are no errors of the server, cancels are marked as such.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer

FAULTS: Final = frozenset({"UNKNOWN", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "DATA_LOSS", "UNIMPLEMENTED"})
"""Codes that make a server span an error (OpenTelemetry's semantic conventions for RPC)."""
CANCELLED: Final = "CANCELLED"


class TracingMissing(Exception):
    """An endpoint is set but the OpenTelemetry packages are not installed."""


class Span:
    """A running span with the token that takes it off the context again."""

    __slots__ = ("span", "token")

    def __init__(self, span: Any, token: Any) -> None:
        """Take an OpenTelemetry span and the token of its attachment."""
        self.span = span
        self.token = token


class _State:
    provider: "TracerProvider | None" = None
    tracer: "Tracer | None" = None


def configure(endpoint: str, service: str = "bacmr", exporter: "SpanExporter | None" = None) -> None:
    """Send spans to an OTLP endpoint (`http://host:4317`), in batches, from now on.

    `exporter` replaces the OTLP one. Raises TracingMissing when the packages are not installed.
    """
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise TracingMissing("BACMR_OTLP_ENDPOINT is set: install bacmr[tracing].") from None
    if exporter is None:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"))
    _State.provider = TracerProvider(resource=Resource.create({"service.name": service}))
    _State.provider.add_span_processor(BatchSpanProcessor(exporter))
    _State.tracer = _State.provider.get_tracer(service)


def flush() -> None:
    """Send what is waiting."""
    if _State.provider is not None:
        _State.provider.force_flush()


def shutdown() -> None:
    """Send what is left and stop."""
    provider, _State.provider, _State.tracer = _State.provider, None, None
    if provider is not None:
        provider.shutdown()


def begin(path: str, traceparent: str, request_id: UUID) -> Span | None:
    """Begin the span of a call, under the caller's trace if it sent one; None while tracing is off."""
    if _State.tracer is None:
        return None
    from opentelemetry import context, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    service, _, method = path.lstrip("/").partition("/")
    span = _State.tracer.start_span(
        path.lstrip("/"),
        context=TraceContextTextMapPropagator().extract({"traceparent": traceparent}) if traceparent else None,
        kind=trace.SpanKind.SERVER,
        attributes={
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": method,
            "bacmr.request_id": str(request_id),
        },
    )
    return Span(span, context.attach(trace.set_span_in_context(span)))


def end(span: Span, code: str) -> None:
    """End the span of a call with its status code by name."""
    from opentelemetry import context
    from opentelemetry.trace import StatusCode

    span.span.set_attribute("rpc.grpc.status_code", code)
    if code in FAULTS:
        span.span.set_status(StatusCode.ERROR, code)
    elif code == CANCELLED:
        span.span.set_status(StatusCode.ERROR, "cancelled by the caller")
    span.span.end()
    context.detach(span.token)


@contextmanager
def step(name: str, **attributes: str | int | float | bool) -> Iterator[None]:
    """Run a block as a step below the call's span (`milvus.search`, `postgresql.transaction`, `model.chat`)."""
    if _State.tracer is None:
        yield
        return
    from opentelemetry.trace import SpanKind, StatusCode

    # What an exception says may be a user's text, so the library must not record it.
    with _State.tracer.start_as_current_span(
        name, kind=SpanKind.CLIENT, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield
        except BaseException as error:
            span.set_status(StatusCode.ERROR, _reason(error))
            raise


def begin_step(name: str) -> Callable[[BaseException | None], None]:
    """Begin a step that ends elsewhere: call what is returned once, with the error that ended it, if any."""
    if _State.tracer is None:
        return _untraced
    from opentelemetry.trace import SpanKind, StatusCode

    span = _State.tracer.start_span(name, kind=SpanKind.CLIENT)

    def end(error: BaseException | None) -> None:
        if error is not None:
            span.set_status(StatusCode.ERROR, _reason(error))
        span.end()

    return end


def _untraced(error: BaseException | None) -> None:
    """Tracing is off."""


def _reason(error: BaseException) -> str:
    return CANCELLED if isinstance(error, asyncio.CancelledError | GeneratorExit) else type(error).__name__


def headers() -> dict[str, str]:
    """Return the headers that continue this trace in another service; empty while tracing is off."""
    carrier: dict[str, str] = {}
    if _State.tracer is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(carrier)
    return carrier
