"""One line of a quality report, and how it is printed next to its limit."""

from dataclasses import dataclass
from enum import StrEnum


class Better(StrEnum):
    """Which direction of a value is good."""

    HIGHER = ">="
    LOWER = "<="


@dataclass(frozen=True, slots=True)
class Row:
    """A measured value with the limit it is held to; no limit means it is printed for information."""

    name: str
    value: float
    limit: float | None = None
    better: Better = Better.HIGHER
    note: str = ""

    @property
    def passed(self) -> bool:
        """Say whether the value keeps its limit; rows without a limit always do."""
        if self.limit is None:
            return True
        return self.value >= self.limit if self.better is Better.HIGHER else self.value <= self.limit

    def __str__(self) -> str:
        """Render as one aligned line."""
        limit = "" if self.limit is None else f"{self.better.value} {self.limit:g}"
        verdict = "" if self.limit is None else ("ok" if self.passed else "MISSED")
        return f"{self.name:<62} {self.value:>9.4f}  {limit:<9} {verdict:<7} {self.note}".rstrip()
