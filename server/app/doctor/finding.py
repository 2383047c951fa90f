"""What an examination found."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a part stands. `UNUSED`: the settings do not ask for it, or it is not running now."""

    FINE = "fine"
    UNUSED = "unused"
    DOUBTFUL = "doubtful"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """A part, how it stands, and in words what was seen and what to do."""

    part: str
    verdict: Verdict
    detail: str
