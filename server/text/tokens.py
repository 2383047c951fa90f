"""Model tokens, counted offline: the cl100k_base encoding (text-embedding-3, GPT-4 family) from a bundled rank file.

The encoding is built from its ranks directly, so neither the network nor tiktoken's cache folder is touched.
"""

import base64
import hashlib
import lzma
from functools import cache
from importlib.resources import files
from operator import itemgetter
from typing import Final

import numpy as np
import tiktoken
from numpy.typing import NDArray

RANKS_SHA256: Final = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
"""Hash of the rank file, the `expected_hash` of cl100k_base in tiktoken_ext/openai_public.py."""

_PATTERN: Final = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
_SPECIAL: Final = {
    "<|endoftext|>": 100257,
    "<|fim_prefix|>": 100258,
    "<|fim_middle|>": 100259,
    "<|fim_suffix|>": 100260,
    "<|endofprompt|>": 100276,
}

_LOWEST_START_BYTE: Final = -64
"""Read as signed bytes, UTF-8 continuation bytes (0x80-0xBF) are -128..-65; every other byte starts a character."""


@cache
def _ranks() -> dict[bytes, int]:
    """Return the merge rank of every ordinary token. Raises ValueError when the bundled file is damaged."""
    lines = lzma.decompress((files("server.text") / "data" / "cl100k_base.tiktoken.xz").read_bytes())
    if hashlib.sha256(lines).hexdigest() != RANKS_SHA256:
        raise ValueError("The bundled cl100k_base rank file is damaged.")
    return {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines.splitlines())}


@cache
def encoding() -> tiktoken.Encoding:
    """Return cl100k_base; takes about 0.2 s the first time."""
    return tiktoken.Encoding("cl100k_base", pat_str=_PATTERN, mergeable_ranks=_ranks(), special_tokens=_SPECIAL)


@cache
def _byte_lengths() -> NDArray[np.int64]:
    """Return the length in bytes of each ordinary token, indexed by its rank (ranks have no gaps)."""
    return np.array([len(token) for token, _ in sorted(_ranks().items(), key=itemgetter(1))], dtype=np.int64)


def count(text: str) -> int:
    """Count the tokens of a text; special-token markup in it counts as plain text."""
    return len(encoding().encode_ordinary(text))


def boundaries(text: str) -> NDArray[np.int64]:
    """Return the character offsets of the token boundaries, shape (tokens + 1,), from 0 to len(text).

    cl100k_base splits most Arabic letters over several tokens; a boundary inside a character is given as the start of
    that character. So `text[b[i]:b[j]]` never holds half a character and is made of tokens i..j-1 (of the character
    cut by the last boundary, only the part before it is missing).
    """
    raw = text.encode("utf-8", "replace")
    tokens = encoding().encode_to_numpy(raw.decode("utf-8"), disallowed_special=())
    byte_offsets = np.zeros(len(tokens) + 1, dtype=np.int64)
    np.cumsum(_byte_lengths()[tokens], out=byte_offsets[1:])
    if len(raw) == len(text):
        return byte_offsets
    starts = np.frombuffer(raw + b"\n", dtype=np.int8) >= _LOWEST_START_BYTE
    return np.cumsum(starts, dtype=np.int64)[byte_offsets] - 1
