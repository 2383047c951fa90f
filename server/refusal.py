"""The ways to say no: one class per refusal, with its public sentence, reason and metadata.

Rooms raise these; only the edge turns them into a status. The class attribute `reason` is a name in
`protos/bacmr/v1/errors.proto` (without its `ERROR_REASON_` prefix); a test keeps both lists equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import ClassVar


class Kind(Enum):
    """What sort of no it is. The edge maps each kind to exactly one gRPC status."""

    INVALID = auto()
    UNAUTHENTICATED = auto()
    FORBIDDEN = auto()
    NOT_FOUND = auto()
    ALREADY_EXISTS = auto()
    EXHAUSTED = auto()
    PRECONDITION = auto()
    ABORTED = auto()
    OUT_OF_RANGE = auto()
    UNAVAILABLE = auto()
    DEADLINE = auto()
    UNIMPLEMENTED = auto()


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that breaks a rule; `field` is its path in the request message, `rule` for programs."""

    field: str
    description: str
    rule: str


class Refusal(Exception):
    """Base of every refusal. `str(refusal)` is a public sentence: it must never quote secrets or foreign text."""

    kind: ClassVar[Kind] = Kind.PRECONDITION
    reason: ClassVar[str] = ""
    sentence: ClassVar[str] = "The request was refused."

    def __init__(
        self,
        sentence: str | None = None,
        *,
        retry_after_seconds: float | None = None,
        violations: Sequence[Violation] = (),
        **metadata: object,
    ) -> None:
        """Keep what the caller may know. `metadata` values become strings in ErrorInfo.metadata."""
        super().__init__(sentence or self.sentence)
        self.retry_after_seconds = retry_after_seconds
        self.violations = tuple(violations)
        self.metadata = {key: str(value) for key, value in metadata.items()}


VIOLATIONS_TOLD = 3
"""In the sentence, which travels in a header; the details hold all."""


class Invalid(Refusal):
    """The request breaks a rule of its own message."""

    kind = Kind.INVALID
    reason = "INVALID_REQUEST"
    sentence = "The request is not valid."

    def __init__(
        self, sentence: str | None = None, *, violations: Sequence[Violation] = (), **metadata: object
    ) -> None:
        """Name what to mend in the sentence as well: tools like grpcurl show details as bytes."""
        told = violations[:VIOLATIONS_TOLD]
        fixes = "; ".join(f"{violation.field}: {violation.description.rstrip('.')}" for violation in told)
        said = sentence or (f"The request is not valid: {fixes}." if fixes else None)
        super().__init__(said, retry_after_seconds=None, violations=violations, **metadata)


class Unreadable(Refusal):
    """The bytes are not a message of the expected type."""

    kind = Kind.INVALID
    reason = "UNREADABLE_MESSAGE"
    sentence = "The message could not be read."


class NotSignedIn(Refusal):
    """No token, or one that does not verify. Deliberately says nothing more."""

    kind = Kind.UNAUTHENTICATED
    reason = "NOT_SIGNED_IN"
    sentence = "Sign in and send a valid access token."


class WrongCredentials(Refusal):
    """Unknown account or wrong password; the two are not told apart."""

    kind = Kind.UNAUTHENTICATED
    reason = "WRONG_CREDENTIALS"
    sentence = "The account or the password is wrong."


class RefreshRefused(Refusal):
    """The refresh token is unknown, expired, revoked or used before."""

    kind = Kind.UNAUTHENTICATED
    reason = "REFRESH_REFUSED"
    sentence = "The session has ended; sign in again."


class Forbidden(Refusal):
    """The caller's role does not allow this."""

    kind = Kind.FORBIDDEN
    reason = "ROLE_NOT_ALLOWED"
    sentence = "Your role does not allow this."


class AccountDisabled(Refusal):
    """An administrator disabled the account."""

    kind = Kind.FORBIDDEN
    reason = "ACCOUNT_DISABLED"
    sentence = "This account is disabled."


class NotFound(Refusal):
    """No such object, or another person's."""

    kind = Kind.NOT_FOUND
    reason = "NOT_FOUND"
    sentence = "There is no such object."


class AlreadyExists(Refusal):
    """An object with this key exists."""

    kind = Kind.ALREADY_EXISTS
    reason = "ALREADY_EXISTS"
    sentence = "It exists already."


class RequestIdReused(Refusal):
    """The request_id came with another payload before."""

    kind = Kind.ALREADY_EXISTS
    reason = "REQUEST_ID_REUSED"
    sentence = "This request_id was used for another request; make a new one."


class RateLimited(Refusal):
    """Too many calls in the window; wait `retry_after_seconds`."""

    kind = Kind.EXHAUSTED
    reason = "RATE_LIMITED"
    sentence = "Too many calls; wait and try again."


class TooManyAttempts(Refusal):
    """Brute-force guard on sign-in or voucher codes."""

    kind = Kind.EXHAUSTED
    reason = "TOO_MANY_ATTEMPTS"
    sentence = "Too many attempts; wait and try again."


class QuotaExceeded(Refusal):
    """A count or size limit of the caller is used up (open answers, uploads)."""

    kind = Kind.EXHAUSTED
    reason = "QUOTA_EXCEEDED"
    sentence = "A limit of your account is reached."


class InsufficientBalance(Refusal):
    """The wallet holds less than the estimate. Metadata: needed, available."""

    kind = Kind.PRECONDITION
    reason = "INSUFFICIENT_BALANCE"
    sentence = "The wallet holds too few tokens for this."


class ReservationFinalized(Refusal):
    """The reservation was finalized before."""

    kind = Kind.PRECONDITION
    reason = "RESERVATION_FINALIZED"
    sentence = "The reservation is already finalized."


class ReservationReleased(Refusal):
    """The reservation was released before."""

    kind = Kind.PRECONDITION
    reason = "RESERVATION_RELEASED"
    sentence = "The reservation is already released."


class ReservationExpired(Refusal):
    """The reservation's time is over by the database clock."""

    kind = Kind.PRECONDITION
    reason = "RESERVATION_EXPIRED"
    sentence = "The reservation has expired."


class VoucherUnknown(Refusal):
    """No such voucher code, or its checksum is wrong."""

    kind = Kind.NOT_FOUND
    reason = "VOUCHER_UNKNOWN"
    sentence = "There is no such voucher code; check the letters."


class VoucherUsed(Refusal):
    """The voucher was redeemed before."""

    kind = Kind.PRECONDITION
    reason = "VOUCHER_USED"
    sentence = "This voucher is already used."


class VoucherExpired(Refusal):
    """The voucher's last day is over."""

    kind = Kind.PRECONDITION
    reason = "VOUCHER_EXPIRED"
    sentence = "This voucher has expired."


class IllegalState(Refusal):
    """The object's state does not allow this move. Metadata: state, and the moves it allows."""

    kind = Kind.PRECONDITION
    reason = "ILLEGAL_STATE"
    sentence = "The object's state does not allow this."


class NoPassages(Refusal):
    """Nothing in the corpus fits the question."""

    kind = Kind.NOT_FOUND
    reason = "NO_PASSAGES"
    sentence = "No page of the library fits this question; ask in other words or change the filters."


class UploadRefused(Refusal):
    """The bytes do not fit what was declared (size, type, hash) or what is allowed."""

    kind = Kind.INVALID
    reason = "UPLOAD_REFUSED"
    sentence = "The uploaded file does not fit its declaration."


class SourceRefused(Refusal):
    """The web address is not allowed (host list, private network, robots.txt)."""

    kind = Kind.PRECONDITION
    reason = "SOURCE_REFUSED"
    sentence = "This address may not be fetched."


class ExportInvalid(Refusal):
    """The export is truncated, changed or of another schema; nothing was written."""

    kind = Kind.PRECONDITION
    reason = "EXPORT_INVALID"
    sentence = "The export does not match its manifest; nothing was imported."


class EventsGone(Refusal):
    """The events asked for are older than the retention; read the stored answer instead."""

    kind = Kind.OUT_OF_RANGE
    reason = "EVENTS_GONE"
    sentence = "These events are no longer kept; call GetAnswer."


class Conflict(Refusal):
    """Somebody else changed it, or an exclusive resource is busy; read again and retry."""

    kind = Kind.ABORTED
    reason = "CONFLICT"
    sentence = "It changed meanwhile; read it again and retry."


class StoreUnavailable(Refusal):
    """A needed store does not answer. Metadata: store."""

    kind = Kind.UNAVAILABLE
    reason = "STORE_UNAVAILABLE"
    sentence = "A part of the service is not reachable; try again soon."


class ModelUnavailable(Refusal):
    """No model of the chain answers."""

    kind = Kind.UNAVAILABLE
    reason = "MODEL_UNAVAILABLE"
    sentence = "No model answers at the moment; try again soon."


class ShuttingDown(Refusal):
    """The server drains and takes no new work."""

    kind = Kind.UNAVAILABLE
    reason = "SHUTTING_DOWN"
    sentence = "The server is restarting; try again."


class DeadlineExceeded(Refusal):
    """The call's deadline passed before its work was done."""

    kind = Kind.DEADLINE
    reason = "DEADLINE_EXCEEDED"
    sentence = "The deadline passed before the work was done."


class NotImplementedYet(Refusal):
    """The method is part of the contract but this server does not serve it."""

    kind = Kind.UNIMPLEMENTED
    reason = "METHOD_NOT_SERVED"
    sentence = "This server does not serve this method."
