"""Voucher codes: sixteen symbols that survive being read aloud and typed, the last one a check of the others.

Crockford's alphabet leaves out letters that look like digits. The check symbol makes the code a word of a linear code
over GF(32) whose coefficients are all different and none is zero, so that any wrong symbol and any two swapped symbols
are noticed before a code counts as a guess at the database. Fifteen free symbols are 75 bits: hashes of codes can be
kept without salt.
"""

import hashlib
import hmac
import unicodedata
from uuid import UUID

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 16
GROUP = 4
_LOOKALIKES = str.maketrans("OIL", "011")
_SEPARATORS = frozenset({"Zs", "Pd", "Pc"})
"""Unicode categories: spaces, dashes, underscores."""
_FIELD_POLYNOMIAL = 0b100101
"""x^5 + x^2 + 1, primitive over GF(2): its powers of x run through all 31 non-zero elements."""


def make_code(key: bytes, batch_id: UUID, position: int) -> str:
    """Return the code at `position` of a batch, in groups of four.

    It is derived from the server's secret instead of drawn, so a retried issue can return the same codes although only
    their hashes are stored.
    """
    digest = hmac.digest(key, b"voucher" + batch_id.bytes + position.to_bytes(4, "big"), "sha256")
    number = int.from_bytes(digest, "big")
    free = [number >> 5 * place & 31 for place in range(LENGTH - 1)]
    symbols = "".join(ALPHABET[value] for value in (*free, _check(free)))
    return "-".join(symbols[start : start + GROUP] for start in range(0, LENGTH, GROUP))


def canonical(typed: str) -> str | None:
    """Return a typed code as its sixteen symbols, or None when it cannot be a code of ours.

    Case, spaces, dashes and digits of other scripts do not matter; O reads as 0, I and L as 1.
    """
    kept = (_ascii_digit(symbol) for symbol in typed.upper() if unicodedata.category(symbol) not in _SEPARATORS)
    symbols = "".join(kept).translate(_LOOKALIKES)
    if len(symbols) != LENGTH or any(symbol not in ALPHABET for symbol in symbols):
        return None
    values = [ALPHABET.index(symbol) for symbol in symbols]
    return symbols if _check(values[:-1]) == values[-1] else None


def code_hash(canonical_code: str) -> bytes:
    """Return what is stored of a code (32 bytes)."""
    return hashlib.sha256(f"bacmr voucher {canonical_code}".encode()).digest()


def _ascii_digit(symbol: str) -> str:
    value = unicodedata.decimal(symbol, None)
    return symbol if value is None else str(value)


def _check(values: list[int]) -> int:
    """Return the sum of the values, each multiplied by another power of x."""
    total = 0
    for value in values:
        total = _times_x(total ^ value)
    return total


def _times_x(value: int) -> int:
    value <<= 1
    return value ^ _FIELD_POLYNOMIAL if value & 32 else value
