"""The contract's rules on fields (protovalidate), checked for every request in one place."""

from collections.abc import Callable
from typing import Any, Final

import protovalidate
from google.protobuf.message import DecodeError, Message

from server.refusal import Invalid, QuotaExceeded, Unreadable, Violation

MESSAGE_BYTES: Final = 4 * 1024 * 1024
SMALL_BYTES: Final = 64
REMEMBERED: Final = 1_024
PLAINER: Final = {
    "must not be in list [0]": "must be set, and not to 0",
    "does not match regex pattern `\\S`": "must not be blank",
}
"""What the rules' own sentences mean, where they speak of their notation."""
Parse = Callable[[bytes], Message]
Check = Callable[[Message, bytes], None]


class Validation:
    """Checks requests by the contract's rules, which are pure: they do not look at the clock."""

    def __init__(self, message_bytes: int = MESSAGE_BYTES) -> None:
        """Make a validator; it compiles the rules of a type when the type's reader is made.

        `message_bytes` is the largest message that is read; the transport must let larger ones come this far.
        """
        self.message_bytes = message_bytes
        self._validator = protovalidate.Validator()

    def reader(self, message_type: type[Message]) -> "Reader":
        """Return what reads messages of a type. Compiles its rules, about 20 ms, so that no call waits for it."""
        self._validator.collect_violations(message_type())
        return Reader(message_type, self._validator, self.message_bytes)


class Reader:
    """Parses and checks messages of one type.

    Small requests come again and again with the same bytes (an empty GetMe, a poll of one job); what passed once is not
    checked again, unless it holds something that must not be kept.
    """

    def __init__(self, message_type: type[Message], validator: protovalidate.Validator, message_bytes: int) -> None:
        """Read messages of `message_type`."""
        self._message_bytes = message_bytes
        self._parse = message_type.FromString
        self._violations = validator.collect_violations
        self._passed: set[bytes] = set()
        secret = any(field.GetOptions().debug_redact for field in message_type.DESCRIPTOR.fields)
        self._kept_bytes = 0 if secret else SMALL_BYTES

    def parse(self, raw: bytes) -> Message:
        """Read a message. Raises QuotaExceeded for a large one; Unreadable, as a parser's words are not for callers."""
        if len(raw) > self._message_bytes:
            raise QuotaExceeded("The message is too large.", scope="message", limit_bytes=self._message_bytes)
        try:
            return self._parse(raw)
        except DecodeError:
            raise Unreadable from None

    def check(self, message: Message, raw: bytes) -> None:
        """Raise Invalid, naming every field, when a message breaks a rule; `raw` is what it was parsed from."""
        if raw in self._passed:
            return
        violations = self._violations(message)
        if violations:
            raise Invalid(violations=[_violation(violation.proto) for violation in violations])
        if len(raw) <= self._kept_bytes:
            if len(self._passed) >= REMEMBERED:
                self._passed.clear()
            self._passed.add(raw)


def _violation(proto: Any) -> Violation:
    description = PLAINER.get(proto.message, proto.message)
    return Violation(field=_path(proto.field) if proto.field else "", description=description, rule=proto.rule_id)


def _path(field: Any) -> str:
    parts = []
    for element in field.elements:
        subscript = getattr(element, "subscript", None)
        parts.append(element.field_name + (f"[{subscript.value!r}]" if subscript is not None else ""))
    return ".".join(parts)
