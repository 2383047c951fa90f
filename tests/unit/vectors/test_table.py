"""The table in memory finds what a plain comparison of all rows finds, whatever was added and removed before."""

from uuid import UUID

import numpy as np
import pytest

from server.vectors import coarse
from server.vectors.lite_rows import FIELDS, RowBlock, packed, unpacked
from server.vectors.port import VectorFilter
from server.vectors.table import Table

DIMENSIONS = 24
ROUNDING = 5e-5
EVERYTHING = VectorFilter(everything=True)
OWNER = UUID(int=8)


def block(start: int, count: int, seed: int = 1, *, sparse: bool = False) -> RowBlock:
    random = np.random.default_rng(seed + start)
    vectors = random.normal(size=(count, DIMENSIONS)).astype(np.float32)
    if sparse:
        vectors[:, DIMENSIONS // 6 :] = 0
    numbers = range(start, start + count)
    fields = {
        "namespace": [f"n{number % 3}" for number in numbers],
        "subject": [("math", "physics")[number % 2] for number in numbers],
        "grade": ["12"] * count,
        "language": [("fr", "ar")[number % 2] for number in numbers],
        "document_id": [str(UUID(int=number // 10)) for number in numbers],
        "owner_id": [str(OWNER) if number % 5 == 0 else "" for number in numbers],
    }
    return RowBlock([f"{number:064x}" for number in numbers], vectors, fields)


def filled(*blocks: RowBlock) -> Table:
    table = Table(blocks[0].vectors.shape[1])
    for one in blocks:
        table.put(one)
    return table


def expected(rows: RowBlock, query: np.ndarray, limit: int, keep: np.ndarray | None = None) -> list[str]:
    norms = np.linalg.norm(rows.vectors, axis=1) * np.linalg.norm(query)
    scores = rows.vectors @ query / norms
    order = [place for place in np.argsort(-scores) if keep is None or keep[place]]
    return [rows.ids[place] for place in order[:limit]]


def cosines(rows: RowBlock, query: np.ndarray, ids: list[str]) -> list[float]:
    vectors = rows.vectors[[rows.ids.index(chunk_id) for chunk_id in ids]]
    return list(vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query))


def found(table: Table, query: np.ndarray, limit: int = 10, where: VectorFilter = EVERYTHING) -> list[str]:
    return [hit.chunk_id for hit in table.search(query, limit, where)]


@pytest.mark.parametrize("sparse", [True, False])
def test_the_nearest_rows_are_found_best_first(sparse: bool) -> None:
    rows = block(0, 3_000)
    query = block(0, 1, seed=99, sparse=sparse).vectors[0]
    hits = filled(rows).search(query, 30, EVERYTHING)
    assert [hit.chunk_id for hit in hits] == expected(rows, query, 30)
    assert [hit.score for hit in hits] == pytest.approx(cosines(rows, query, expected(rows, query, 30)), abs=ROUNDING)


def test_rows_added_in_many_pieces_are_found_like_rows_added_at_once() -> None:
    rows = block(0, 2_500)
    query = block(0, 1, seed=99).vectors[0]
    pieces = [
        RowBlock(
            rows.ids[start : start + 7],
            rows.vectors[start : start + 7],
            {name: texts[start : start + 7] for name, texts in rows.fields.items()},
        )
        for start in range(0, 2_500, 7)
    ]
    table = filled(*pieces)
    assert len(table) == 2_500
    assert found(table, query, 20) == expected(rows, query, 20)


@pytest.mark.parametrize(
    ("where", "keep"),
    [
        (VectorFilter(namespace="n1", everything=True), lambda number: number % 3 == 1),
        (VectorFilter(subject="math", language="fr", everything=True), lambda number: number % 2 == 0),
        (VectorFilter(), lambda number: number % 5 != 0),
        (VectorFilter(viewer_id=OWNER), lambda number: True),
        (VectorFilter(viewer_id=UUID(int=9)), lambda number: number % 5 != 0),
        (VectorFilter(document_ids=(UUID(int=1), UUID(int=3)), everything=True), lambda number: number // 10 in (1, 3)),
        (VectorFilter(grade="11", everything=True), lambda number: False),
    ],
    ids=lambda value: str(value) if isinstance(value, VectorFilter) else "",
)
def test_filters_keep_what_fits_only(where: VectorFilter, keep: object) -> None:
    rows, query = block(0, 400), block(0, 1, seed=99).vectors[0]
    mask = np.array([keep(number) for number in range(400)])  # type: ignore[operator]
    assert found(filled(rows), query, 400, where) == expected(rows, query, 400, mask)


def test_a_row_written_again_is_found_once_with_its_new_vector() -> None:
    former, latter = block(0, 50), block(0, 50, seed=2)
    table = filled(former, latter)
    query = latter.vectors[3]
    assert len(table) == 50
    assert found(table, query, 100) == expected(latter, query, 100)


def test_removed_rows_are_not_found() -> None:
    rows, query = block(0, 100), block(0, 1, seed=99).vectors[0]
    table = filled(rows)
    table.remove([rows.ids[0], rows.ids[0], "unknown"])
    table.remove_document(str(UUID(int=3)))
    table.remove_document("unknown")
    keep = np.array([number != 0 and number // 10 != 3 for number in range(100)])
    assert len(table) == 89
    assert found(table, query, 100) == expected(rows, query, 100, keep)


def test_rewriting_for_ever_does_not_grow_for_ever() -> None:
    table = Table(DIMENSIONS)
    for round_ in range(100):
        table.put(block(0, 500, seed=round_))
    rows, query = block(0, 500, seed=99), block(0, 1, seed=7).vectors[0]
    assert len(table) == 500
    assert table.size_bytes < 4_000 * DIMENSIONS * 4
    # Rounding may exchange neighbours of almost the same score, so scores are compared.
    assert cosines(rows, query, found(table, query, 500)) == pytest.approx(
        cosines(rows, query, expected(rows, query, 500)), abs=ROUNDING
    )


def test_an_empty_table_finds_nothing() -> None:
    table = Table(DIMENSIONS)
    table.put(RowBlock([], np.empty((0, DIMENSIONS), np.float32), {name: [] for name in FIELDS}))
    assert found(table, np.ones(DIMENSIONS, np.float32)) == []


def test_a_zero_vector_is_no_error() -> None:
    rows = block(0, 3)
    rows.vectors[0] = 0
    assert len(found(filled(rows), np.ones(DIMENSIONS, np.float32))) == 3
    assert len(found(filled(rows), np.zeros(DIMENSIONS, np.float32))) == 3


def test_a_block_survives_the_wire() -> None:
    sent = block(0, 5)
    got = unpacked(packed(sent))
    assert (got.ids, got.fields) == (sent.ids, sent.fields)
    assert np.array_equal(got.vectors, sent.vectors)


@pytest.mark.parametrize(("used", "heaviest"), [(60, 1.0), (1_024, 1.0), (1_024, 8.0)])
def test_the_coarse_search_loses_none_of_the_best_among_many(used: int, heaviest: float) -> None:
    random = np.random.default_rng(4)
    topics = random.normal(size=(200, 1_024)).astype(np.float32)
    vectors = topics[random.integers(0, 200, 6_000)] + random.normal(size=(6_000, 1_024)).astype(np.float32)
    rows = RowBlock([f"{number:064x}" for number in range(6_000)], vectors, {name: [""] * 6_000 for name in FIELDS})
    query = topics[7] + random.normal(size=1_024).astype(np.float32)
    query[used:] = 0.0
    vectors[:, :4] *= heaviest
    query[:4] *= heaviest
    assert set(found(filled(rows), query, 30)) == set(expected(rows, query, 30))


def test_no_sum_of_a_rows_numbers_passes_sixteen_bits() -> None:
    dimensions = 1_024
    even = np.full((1, dimensions), dimensions**-0.5, np.float32)
    query = np.ones(dimensions, np.float32)
    assert coarse.products(coarse.columns_of(even), query, 1)[0] > 0
    assert coarse.columns_of(even).sum(dtype=np.int64) <= np.iinfo(np.int16).max
