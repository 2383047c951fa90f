"""Promises of fused and merged orders."""

from hypothesis import given
from hypothesis import strategies as st

from server.retrieval.ranking import fuse, merge, reorder, shortlist
from server.vectors.port import Hit

IDS = st.sampled_from([f"c{number}" for number in range(40)])
HITS = st.dictionaries(IDS, st.floats(-1, 30), max_size=30).map(
    lambda scores: [Hit(chunk_id, score) for chunk_id, score in sorted(scores.items(), key=lambda pair: -pair[1])]
)


def hits(*scores: float) -> list[Hit]:
    return [Hit(f"c{number}", score) for number, score in enumerate(scores)]


def ids(ranked: list[tuple[str, float]]) -> list[str]:
    return [chunk_id for chunk_id, _ in ranked]


@given(HITS, HITS, st.booleans())
def test_fusing_loses_and_repeats_nothing(dense: list[Hit], full_text: list[Hit], semantic: bool) -> None:
    fused = ids(fuse(dense, full_text, semantic=semantic))
    assert sorted(fused) == sorted({hit.chunk_id for hit in (*dense, *full_text)})


@given(HITS)
def test_one_search_alone_keeps_its_order(found: list[Hit]) -> None:
    assert ids(fuse(found, [])) == ids(fuse([], found)) == [hit.chunk_id for hit in found]


def test_full_text_decides_where_it_is_surer() -> None:
    dense = [Hit("other", 0.50), Hit("right", 0.49)]
    full_text = [Hit("right", 12.0), Hit("other", 4.0)]
    assert ids(fuse(dense, full_text))[0] == "right"


def test_the_vector_search_overrules_where_it_is_surer() -> None:
    dense = [Hit("right", 0.80), Hit("other", 0.10)]
    full_text = [Hit("other", 10.0), Hit("right", 9.5)]
    assert ids(fuse(dense, full_text))[0] == "right"


def test_a_semantic_search_counts_as_much_as_full_text() -> None:
    dense = [Hit("meant", 0.80), Hit("both", 0.79)]
    full_text = [Hit("both", 10.0), Hit("said", 9.0)]
    assert ids(fuse(dense, full_text, semantic=True))[0] == "both"


@given(HITS, HITS, st.integers(6, 30))
def test_a_shortlist_loses_nothing_and_keeps_the_best(dense: list[Hit], full_text: list[Hit], size: int) -> None:
    fused = fuse(dense, full_text)
    short = shortlist(fused, dense, size)
    assert sorted(short) == sorted(fused)
    assert ids(short)[: size - size // 3] == ids(fused)[: size - size // 3]


def test_what_only_the_vector_search_finds_is_on_the_shortlist() -> None:
    full_text = [Hit(f"t{number}", 30.0 - number) for number in range(30)]
    dense = [Hit(f"d{number}", 0.2) for number in range(30)]
    short = ids(shortlist(fuse(dense, full_text), dense, 21))[:21]
    assert len([chunk_id for chunk_id in short if chunk_id[0] == "d"]) == 7


@given(st.lists(HITS, min_size=1, max_size=3), st.integers(3, 30))
def test_merging_variants_repeats_nothing_and_keeps_the_first_ones_best(variants: list[list[Hit]], size: int) -> None:
    ranked = [[(hit.chunk_id, hit.score) for hit in variant] for variant in variants]
    merged = ids(merge(ranked, size))
    assert len(merged) == len(set(merged)) <= size
    if ranked[0]:
        assert merged[0] == ids(ranked[0])[0]


def test_another_variant_gets_a_third() -> None:
    first = [(f"a{number}", 1.0) for number in range(30)]
    second = [(f"b{number}", 1.0) for number in range(30)]
    merged = ids(merge([first, second], 30))
    assert len(merged) == 30
    assert len([chunk_id for chunk_id in merged if chunk_id[0] == "b"]) == 10


def test_a_variant_that_finds_nothing_takes_no_place() -> None:
    first = [(f"a{number}", 1.0) for number in range(30)]
    assert merge([first, []], 30) == first


def test_the_reranker_decides_and_equals_keep_their_order() -> None:
    fused = [("a", 3.0), ("b", 2.0), ("c", 1.0), ("gone", 0.5)]
    assert reorder(fused, {"a": 0.1, "b": 0.9, "c": 0.9}) == [("b", 0.9), ("c", 0.9), ("a", 0.1), ("gone", 0.1)]
