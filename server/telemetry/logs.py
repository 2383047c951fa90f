"""Logs: one JSON object per line with timestamp, level, logger, message and request_id, and no secrets.

Our own loggers (`structlog.get_logger(__name__)`) and those of libraries (stdlib) come out alike. Redaction works on
field names and on values that look like tokens, keys or addresses with a password; it is the second guard, the first
is not to log requests at all.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Protocol, TextIO
from uuid import UUID

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from server.caller import current

REDACTED: Final = "[redacted]"
TIMESTAMP: Final = "%Y-%m-%dT%H:%M:%S.%fZ"
SECRET_NAME: Final = re.compile(
    r"(^|_)(authorization|cookie|password|passwd|secret|token|credential|credentials|api_?key|private_?key|voucher_code)$",
    re.I,
)
"""Field names whose values are never written. Counts such as `charged_tokens` do not match."""
SECRET_VALUE: Final = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]*\.?[\w-]*"  # a JWT, whole or cut
    r"|(?i:bearer)\s+[^\s\"',}]+"
    r"|\b(?:sk|pk|rk)-[\w-]{12,}"  # keys of model providers
    r"|\bAKIA[0-9A-Z]{12,}"
    r"|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"  # user:password in an address
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
    r"|(?<![\w-])(?=[\w-]*[g-z])(?=[\w-]*[A-Z])(?=[\w-]*\d)[\w-]{40,}"  # opaque random tokens, but not hex digests
)


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Route every logger of the process to `stream` (standard output by default), from `level` up."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    out = stream or sys.stdout
    _calls.out = out if threshold <= logging.INFO else None
    structlog.configure(
        processors=[*_shared(), _render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *names: _Line(names[0] if names else "bacmr", out),
        cache_logger_on_first_use=stream is None,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[*_foreign(), _render]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.WARNING))


class Call(Protocol):
    """A call that ended, as its line shows it."""

    @property
    def path(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def ended_at(self) -> float: ...
    @property
    def request_id(self) -> str: ...
    @property
    def user_id(self) -> UUID | None: ...
    @property
    def address(self) -> str: ...


def calls(ended: Iterable[Call]) -> None:
    """Write the lines of calls at once.

    Put together by hand, in a fifth of the usual time. All values are words of ours (paths of our contract, codes,
    UUIDs, parsed addresses): nothing that a caller wrote gets here.
    """
    if _calls.out is not None:
        lines = "".join(map(_call_line, ended))
        if lines:
            _calls.out.write(lines)
            _calls.out.flush()


def redact(value: Any) -> Any:
    """Return `value` with everything that looks like a secret replaced, also inside of lists and mappings."""
    if isinstance(value, str):
        return SECRET_VALUE.sub(REDACTED, value) if len(value) > 8 else value
    if isinstance(value, Mapping):
        return {key: REDACTED if _names_a_secret(key) else redact(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [redact(inner) for inner in value]
    return value


class _Calls:
    """Where lines of calls go; nowhere until `configure` was called, or above level info."""

    out: TextIO | None = None


_calls: Final = _Calls()


_user: Final = lru_cache(maxsize=4096)(str)
"""The text of a user's id, which is dear; who calls once calls again."""


@lru_cache(maxsize=4)
def _second(unix_seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_seconds))


def _call_line(call: Call) -> str:
    return (
        f'{{"timestamp": "{_second(int(call.ended_at))}.{int(call.ended_at % 1 * 1e6):06d}Z", "level": "info", '
        f'"logger": "server.edge", "message": "call", "request_id": "{call.request_id}", "method": "{call.path}", '
        f'"code": "{call.code}", "milliseconds": {call.seconds * 1000:.3f}, '
        f'"user_id": "{_user(call.user_id or "")}", "address": "{call.address}"}}\n'
    )


class _Line:
    """Writes finished lines; `name` is the logger field."""

    __slots__ = ("_out", "name")

    def __init__(self, name: str, out: TextIO) -> None:
        self.name = name
        self._out = out

    def msg(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()

    debug = info = warning = error = critical = exception = log = msg


def _shared() -> list[Processor]:
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt=TIMESTAMP, utc=True),
        _name,
        _correlate,
        structlog.processors.format_exc_info,
        _redact,
    ]


def _foreign() -> list[Processor]:
    steps: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_shared()]
    return [_take_record, *steps]


def _take_record(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    record: logging.LogRecord = event["_record"]
    event["level"] = record.levelname.lower()
    event["logger"] = record.name
    if record.exc_info:
        event["exc_info"] = record.exc_info
    return event


def _name(logger: WrappedLogger, _: str, event: EventDict) -> EventDict:
    if "logger" not in event:
        event["logger"] = getattr(logger, "name", "bacmr")
    return event


def _correlate(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    if "request_id" not in event:
        request_id = current().request_id
        event["request_id"] = str(request_id) if request_id.int else ""
    return event


def _names_a_secret(name: object) -> bool:
    return isinstance(name, str) and SECRET_NAME.search(name) is not None


def _redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if name in _PLAIN:
            continue
        event[name] = REDACTED if _names_a_secret(name) else redact(value)
    return event


_PLAIN: Final = frozenset({"timestamp", "level", "logger", "request_id"})
_encode: Final[Callable[[Any], str]] = json.JSONEncoder(ensure_ascii=False, default=str).encode


def _render(_: WrappedLogger, __: str, event: EventDict) -> str:
    event["message"] = event.pop("event", "")
    return _encode(event)
