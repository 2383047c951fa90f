"""A vector search in memory: the rows of one index as arrays, searched coarsely and then exactly. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from server.vectors import coarse
from server.vectors.lite_rows import FIELDS, RowBlock
from server.vectors.port import Hit, Vector, VectorFilter

_SCORED: Final = 6
"""Rows scored exactly for each one wanted, the best by the coarse search."""
_LEAST_SCORED: Final = 128
_FULL_SCALE: Final = np.float32(np.iinfo(np.int16).max)
"""What 1.0 is in the rows' whole numbers: a cosine is off by some 0.00001."""
_LEAST_CAPACITY: Final = 1_024
_GROWTH: Final = 1.5
_WASTE: Final = 0.5
"""When rows must move anyway and more than this share of them is dead, the dead ones are left behind."""
_FEW_CODES: Final = 8
"""Up to so many are compared one by one faster than looked up."""
_TINY: Final = np.float32(1e-30)


@dataclass(slots=True)
class _Rows:
    """The arrays of a table; rows are only added and marked dead, so a search may go on in another thread.

    `vectors` has the shape (capacity, dimensions) and `columns`, which are searched first, (dimensions, capacity).
    """

    vectors: NDArray[np.int16]
    columns: NDArray[np.int16]
    codes: dict[str, NDArray[np.int32]]
    alive: NDArray[np.bool_]
    ids: list[str] = field(default_factory=list)


def _empty(dimensions: int, capacity: int) -> _Rows:
    codes = {name: np.zeros(capacity, np.int32) for name in FIELDS}
    vectors, columns = np.zeros((capacity, dimensions), np.int16), np.zeros((dimensions, capacity), np.int16)
    return _Rows(vectors, columns, codes, np.zeros(capacity, np.bool_))


class Table:
    """Rows of one index, written by one thread and searched by any."""

    def __init__(self, dimensions: int) -> None:
        self._rows = _empty(dimensions, _LEAST_CAPACITY)
        self._codes: dict[str, dict[str, int]] = {name: {} for name in FIELDS}
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        """Return the number of rows that can be found."""
        return len(self._places)

    @property
    def size_bytes(self) -> int:
        """Memory held by the vectors."""
        return self._rows.vectors.nbytes + self._rows.columns.nbytes

    def put(self, block: RowBlock) -> None:
        """Add rows (each id once); former rows of the same ids are dead from then on."""
        if not block.ids:
            return
        start, end = self._reserved(len(block.ids))
        rows = self._rows
        lengths = np.maximum(np.linalg.norm(block.vectors, axis=1, keepdims=True), _TINY)
        units = block.vectors / lengths
        rows.vectors[start:end] = np.rint(units * _FULL_SCALE)
        rows.columns[:, start:end] = coarse.columns_of(units)
        for name, texts in block.fields.items():
            known = self._codes[name]
            rows.codes[name][start:end] = [known.setdefault(text, len(known)) for text in texts]
        self.remove(block.ids)
        self._places.update(zip(block.ids, range(start, end), strict=True))
        rows.alive[start:end] = True
        rows.ids.extend(block.ids)

    def remove(self, chunk_ids: Iterable[str]) -> None:
        """Mark rows dead; unknown ids are no error."""
        for chunk_id in chunk_ids:
            place = self._places.pop(chunk_id, None)
            if place is not None:
                self._rows.alive[place] = False

    def remove_document(self, document_id: str) -> None:
        """Mark all rows of a document dead."""
        code = self._codes["document_id"].get(document_id)
        if code is not None:
            rows = self._rows
            places = np.flatnonzero(rows.alive & (rows.codes["document_id"] == code))
            self.remove([rows.ids[place] for place in places])

    def search(self, vector: Vector, limit: int, where: VectorFilter) -> list[Hit]:
        """Return the nearest rows that may be found, best first, with their cosine similarity."""
        rows = self._rows
        count = len(rows.ids)
        candidates = self._candidates(rows, count, where)
        if limit <= 0 or not len(candidates):
            return []
        unit = vector / max(np.linalg.norm(vector), _TINY)
        scored = max(_LEAST_SCORED, _SCORED * limit)
        if len(candidates) > scored:
            sums = coarse.products(rows.columns, unit, count)[candidates]
            candidates = candidates[np.argpartition(sums, -scored)[-scored:]]
        scores = rows.vectors[candidates].astype(np.float32) @ (unit / _FULL_SCALE)
        nearest = np.argsort(-scores)[:limit]
        hits = [Hit(rows.ids[candidates[place]], float(scores[place])) for place in nearest]
        return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))

    def _candidates(self, rows: _Rows, count: int, where: VectorFilter) -> NDArray[np.intp]:
        wanted: dict[str, list[str]] = {
            "namespace": [where.namespace] if where.namespace else [],
            "subject": [where.subject] if where.subject else [],
            "grade": [where.grade] if where.grade else [],
            "language": [where.language] if where.language else [],
            "document_id": [str(document_id) for document_id in where.document_ids],
            "owner_id": [] if where.everything else ["", str(where.viewer_id or "")],
        }
        mask = rows.alive[:count].copy()
        for name, texts in wanted.items():
            if texts:
                codes = [code for code in map(self._codes[name].get, texts) if code is not None]
                mask &= _any_of(rows.codes[name][:count], codes)
        return np.flatnonzero(mask)

    def _reserved(self, count: int) -> tuple[int, int]:
        """Return where `count` more rows go, moving all rows into larger arrays when they do not fit."""
        rows = self._rows
        used, capacity = len(rows.ids), len(rows.alive)
        if used + count > capacity:
            kept = np.arange(used) if len(self) > used * _WASTE else np.flatnonzero(rows.alive[:used])
            larger = _empty(len(rows.columns), int((len(kept) + count) * _GROWTH))
            larger.vectors[: len(kept)] = rows.vectors[kept]
            larger.columns[:, : len(kept)] = rows.columns[:, kept]
            larger.alive[: len(kept)] = rows.alive[kept]
            for name in FIELDS:
                larger.codes[name][: len(kept)] = rows.codes[name][kept]
            larger.ids = [rows.ids[place] for place in kept]
            self._places = {larger.ids[place]: int(place) for place in np.flatnonzero(larger.alive[: len(kept)])}
            self._rows, used = larger, len(kept)
        return used, used + count


def _any_of(held: NDArray[np.int32], codes: Sequence[int]) -> NDArray[np.bool_]:
    """Say for each code whether it is one of `codes`."""
    if len(codes) > _FEW_CODES:
        return np.isin(held, codes)
    found = np.zeros(len(held), np.bool_)
    for code in codes:
        found |= held == code
    return found
