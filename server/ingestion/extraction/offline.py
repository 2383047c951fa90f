"""Raised and lowered text as characters: the plain text of "x<sup>2</sup>" would be "x2". Pure."""

_SIGNS = "0123456789+-−=()n"
_RAISED = str.maketrans(_SIGNS, "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿ")
_LOWERED = str.maketrans(_SIGNS, "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₙ")
_ORDINALS = frozenset({"er", "ère", "re", "e", "ème", "nd", "nde", "d", "o", "os", "es", "ers", "res", "me", "lle"})
"""Endings that French raises and that are read as if it did not."""


def raised(text: str) -> str:
    """Return raised text as characters where there are such, else behind a "^"; "er" of "1er" as it is."""
    return text if text.strip().lower() in _ORDINALS else _written(text, text.translate(_RAISED), "^")


def lowered(text: str) -> str:
    """Return lowered text as characters where there are such, else behind a "_"."""
    return _written(text, text.translate(_LOWERED), "_")


def _written(text: str, translated: str, sign: str) -> str:
    return translated if translated != text else f"{sign}{text}" if text.strip() else text
