"""The seam for mobile-money providers: what their callbacks say, and how a callback proves where it comes from."""

import hmac
import re
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.refusal import Invalid, NotSignedIn, Violation

WINDOW_SECONDS = 300
"""How far a callback's time may be from ours, either way."""
PROVIDER_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
UNIX_SECONDS = re.compile(r"[0-9]{1,12}")
_REQUESTS = UUID("6f1d9d64-3f55-4f0b-9a53-6f7a1c1f8a51")
"""Namespace of the request ids that stand for payments in the ledger."""


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment as its provider reports it; `reference` is the provider's own, and never used for another payment."""

    provider: str
    reference: str
    user_id: UUID
    tokens: int

    @property
    def request_id(self) -> UUID:
        """The same for every callback about this payment."""
        return uuid5(_REQUESTS, f"{self.provider} {self.reference}")


@dataclass(frozen=True, slots=True)
class TopUp:
    """What became of a reported payment; `credited` is False when it was known already."""

    credited: bool
    balance_tokens: int


class CallbackReader(Protocol):
    """Reads one provider's callbacks: the raw body, and what two headers said."""

    def read(self, body: bytes, signature: str, sent_at: str, now: float) -> Payment:
        """Return the payment. `now` is Unix time in seconds.

        Raises NotSignedIn when the signature does not prove the provider, or not for now; Invalid for the content.
        """
        ...


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=False)

    reference: str = Field(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")
    user_id: UUID
    tokens: int = Field(gt=0, le=1_000_000_000)


class SignedJson:
    """Reads JSON `{reference, user_id, tokens}`, signed with HMAC-SHA256 (hex) over its time, a dot and the raw body.

    Its time is Unix time in whole seconds. A replay is harmless anyway, since a reference credits once; the window
    keeps it so after a restore to a time before the payment.
    """

    def __init__(self, provider: str, secret: bytes) -> None:
        """Take the provider's name, as in `bankily`, and the secret shared with it."""
        if not PROVIDER_NAME.fullmatch(provider) or not secret:
            raise ValueError("a provider needs a name like `bankily` and a secret")
        self._provider = provider
        self._secret = secret

    def read(self, body: bytes, signature: str, sent_at: str, now: float) -> Payment:
        """Return the payment."""
        expected = hmac.digest(self._secret, sent_at.encode() + b"." + body, "sha256").hex()
        if not hmac.compare_digest(expected.encode(), signature.strip().lower().encode()):
            raise NotSignedIn("The callback's signature is wrong.")
        if not UNIX_SECONDS.fullmatch(sent_at) or abs(now - int(sent_at)) > WINDOW_SECONDS:
            raise NotSignedIn(f"The callback's time is more than {WINDOW_SECONDS} s from ours.")
        try:
            content = _Body.model_validate_json(body)
        except ValidationError as error:
            fields = [".".join(map(str, problem["loc"])) or "body" for problem in error.errors(include_input=False)]
            raise Invalid(
                violations=[Violation(field, "is missing or wrong", "required") for field in fields]
            ) from None
        return Payment(self._provider, content.reference, content.user_id, content.tokens)
