"""Speed, each figure next to its limit and measured in the same run as what it is compared with."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: ours in `unit`, the reference's, ours as a share of it, and the share to reach."""

    name: str
    value: float
    unit: str
    reference: float
    ratio: float
    limit: float
