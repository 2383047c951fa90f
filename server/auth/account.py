"""What an account is, and the rules for its names, its password and its profile."""

import hashlib
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from server.caller import Role, Tier
from server.refusal import Invalid, Violation
from server.text.fold import INVISIBLE, one_line
from server.text.language import Language

EMAIL_LENGTH_MAX = 254
PASSWORD_LENGTH_MIN = 8
PASSWORD_LENGTH_MAX = 128
DISPLAY_NAME_LENGTH_MAX = 100
DEVICE_NAME_LENGTH_MAX = 100
HOME_COUNTRY_CODE = "+222"
"""Mauritania: its numbers have eight digits and are usually written without the code."""

GRANTED_ROLES = frozenset({Role.STUDENT, Role.TEACHER, Role.ADMIN, Role.SERVICE})
"""Roles an account can have; `anyone` is the absence of one."""

_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f.]+(\.[^@\s\x00-\x1f.]+)+")
_PHONE = re.compile(r"\+[1-9][0-9]{7,14}")
_PHONE_DECORATION = re.compile(r"[\s().\-\u00a0\u200e\u200f\u202a-\u202e]")


@dataclass(frozen=True, slots=True)
class Login:
    """The name an account signs in by: an e-mail address or a phone number in E.164 form; the other one is empty."""

    email: str = ""
    phone: str = ""

    @property
    def digest(self) -> bytes:
        """SHA-256 that stands for the account where attempts are counted (32 bytes)."""
        return hashlib.sha256(f"{self.email}\n{self.phone}".encode()).digest()


@dataclass(frozen=True, slots=True)
class Profile:
    """What a person chooses about the account. `preferred_language` None: answers follow the question."""

    display_name: str = ""
    preferred_language: Language | None = None


@dataclass(frozen=True, slots=True)
class User:
    """An account as its owner and operators see it; `issuer` is empty for accounts that sign in here."""

    id: UUID
    email: str
    phone: str
    display_name: str
    preferred_language: Language | None
    role: Role
    tier: Tier
    disabled: bool
    issuer: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Device:
    """A signed-in device; `current` marks the one that asks."""

    session_id: UUID
    device_name: str
    created_at: datetime
    last_used_at: datetime
    current: bool


def login_of(email: str, phone: str) -> Login:
    """Return the canonical login name. Raises Invalid unless exactly one is given and it is well formed."""
    if bool(email.strip()) == bool(phone.strip()):
        raise Invalid(violations=[Violation("email", "Give either an e-mail address or a phone number.", "one_name")])
    return Login(email=canonical_email(email)) if email.strip() else Login(phone=canonical_phone(phone))


def canonical_email(email: str) -> str:
    """Return the address in lower case and NFC, as it is stored and compared. Raises Invalid."""
    canonical = unicodedata.normalize("NFC", email.strip()).lower()
    if len(canonical) > EMAIL_LENGTH_MAX or not _EMAIL.fullmatch(canonical) or set(canonical) & set(INVISIBLE):
        raise Invalid(violations=[Violation("email", "This is not an e-mail address.", "string.email")])
    return canonical


def canonical_phone(phone: str) -> str:
    """Return the number in E.164 form; `36 12 34 56`, `00222…` and Arabic digits are understood. Raises Invalid."""
    bare = _PHONE_DECORATION.sub("", phone)
    digits = "".join(str(unicodedata.digit(sign)) if sign.isdecimal() else sign for sign in bare)
    if digits.startswith("00"):
        digits = "+" + digits[2:]
    elif len(digits) == 8 and digits.isascii() and digits.isdecimal():
        digits = HOME_COUNTRY_CODE + digits
    if not _PHONE.fullmatch(digits):
        raise Invalid(violations=[Violation("phone", "This is not a full phone number.", "string.pattern")])
    return digits


def check_new_password(password: str, login: Login, field: str = "password") -> None:
    """Raise Invalid for a password that is too short, too long, or the account's own name."""
    length = len(canonical_password(password))
    if not PASSWORD_LENGTH_MIN <= length <= PASSWORD_LENGTH_MAX:
        reason = f"The password must have {PASSWORD_LENGTH_MIN} to {PASSWORD_LENGTH_MAX} characters."
        raise Invalid(violations=[Violation(field, reason, "password.length")])
    if password.strip().lower() in _own_names(login):
        raise Invalid(violations=[Violation(field, "The account's name is no password.", "password.own_name")])


def canonical_password(password: str) -> str:
    """Return the password in NFC (RFC 8265): keyboards compose accents and Arabic marks in different ways."""
    return unicodedata.normalize("NFC", password)


def canonical_name(name: str, field: str, length_max: int) -> str:
    """Return a display or device name in one line, as `one_line` does. Raises Invalid when too long."""
    visible = one_line(name)
    if len(visible) > length_max:
        raise Invalid(violations=[Violation(field, f"At most {length_max} characters.", "string.max_len")])
    return visible


def merged(profile: Profile, change: Profile, paths: Collection[str]) -> Profile:
    """Return `profile` with the fields that `paths` names taken from `change`; `*` names all. Raises Invalid."""
    known = {"display_name", "preferred_language"}
    unknown = sorted(set(paths) - known - {"*"})
    if unknown or not paths:
        allowed = ", ".join(sorted(known))
        raise Invalid(violations=[Violation("update_mask", f"Name fields to change: {allowed}.", "field_mask")])
    chosen = known if "*" in paths else set(paths)
    name = canonical_name(change.display_name, "user.display_name", DISPLAY_NAME_LENGTH_MAX)
    return Profile(
        display_name=name if "display_name" in chosen else profile.display_name,
        preferred_language=change.preferred_language if "preferred_language" in chosen else profile.preferred_language,
    )


def _own_names(login: Login) -> set[str]:
    names = {login.email, login.email.partition("@")[0], login.phone, login.phone.removeprefix("+")}
    names.add(login.phone.removeprefix(HOME_COUNTRY_CODE))
    return names - {""}
