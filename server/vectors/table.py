"""An exact vector search in memory: the rows of one index as arrays. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from server.vectors.lite_rows import FIELDS, RowBlock
from server.vectors.port import Hit, Vector, VectorFilter

_SPARSE_SHARE: Final = 0.3
"""A query with a smaller share of values that are not zero is cheaper to score by those dimensions alone."""
_BLOCK_VALUES: Final = 1 << 18
"""Values multiplied at a time: they stay in the cache, and OpenBLAS starts no threads, dearer than what they gain."""
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

    `columns` has the shape (dimensions, capacity): a query reads only the dimensions it has.
    """

    columns: NDArray[np.float32]
    codes: dict[str, NDArray[np.int32]]
    alive: NDArray[np.bool_]
    ids: list[str] = field(default_factory=list)


def _empty(dimensions: int, capacity: int) -> _Rows:
    codes = {name: np.zeros(capacity, np.int32) for name in FIELDS}
    return _Rows(np.zeros((dimensions, capacity), np.float32), codes, np.zeros(capacity, np.bool_))


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
        return self._rows.columns.nbytes

    def put(self, block: RowBlock) -> None:
        """Add rows (each id once); former rows of the same ids are dead from then on."""
        if not block.ids:
            return
        start, end = self._reserved(len(block.ids))
        rows = self._rows
        lengths = np.maximum(np.linalg.norm(block.vectors, axis=1, keepdims=True), _TINY)
        rows.columns[:, start:end] = (block.vectors / lengths).T
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
        best = min(limit, len(candidates))
        if best <= 0:
            return []
        unit = vector / max(np.linalg.norm(vector), _TINY)
        scores = _scores(rows.columns, unit, count)[candidates]
        nearest = np.argpartition(-scores, best - 1)[:best]
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


def _scores(columns: NDArray[np.float32], unit: Vector, count: int) -> NDArray[np.float32]:
    """Return the product of `unit` with the first `count` columns."""
    places = np.flatnonzero(unit)
    sparse = len(places) <= _SPARSE_SHARE * len(unit)
    weights = unit[places] if sparse else unit
    scores = np.empty(count, np.float32)
    width = max(1, _BLOCK_VALUES // max(1, len(weights)))
    for start in range(0, count, width):
        end = min(start + width, count)
        block = columns[places, start:end] if sparse else columns[:, start:end]
        np.matmul(weights, block, out=scores[start:end])
    return scores
