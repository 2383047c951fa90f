"""The pure rules of the vector layout."""

from uuid import UUID

import pytest

from server import refusal
from server.vectors import filters
from server.vectors.port import VectorFilter


def test_an_index_name_tells_the_vector_space_and_the_version() -> None:
    assert filters.index_name("local-hash-1024-v1", 1024, 2) == "chunks__local_hash_1024_v1__1024__v2"


def test_every_made_index_name_is_accepted() -> None:
    filters.check_index_name(filters.index_name("text-embedding-3-small", 1536))


@pytest.mark.parametrize("name", ["", "chunks__", "other__x", "chunks__é", "chunks__a b", "chunks__" + "x" * 201])
def test_a_name_that_milvus_would_not_take_is_refused(name: str) -> None:
    with pytest.raises(refusal.Invalid):
        filters.check_index_name(name)


def test_any_number_of_namespaces_fits_into_the_partitions() -> None:
    used = {filters.partition_of(f"namespace {number}") for number in range(5_000)}
    assert len(used) == filters.PARTITION_COUNT


def test_a_namespace_keeps_its_partition() -> None:
    assert filters.partition_of("grade-12-math") == filters.partition_of("grade-12-math")


def test_only_shared_rows_may_be_found_without_a_viewer() -> None:
    assert filters.expression(VectorFilter()) == 'owner_id in [""]'


def test_a_viewer_adds_its_own_rows() -> None:
    viewer = UUID(int=5)
    assert filters.expression(VectorFilter(viewer_id=viewer)) == f'owner_id in ["", "{viewer}"]'


def test_everything_lifts_the_visibility_rule_and_keeps_the_filters() -> None:
    where = VectorFilter(namespace="n", everything=True)
    assert filters.expression(where) == 'namespace == "n"'


def test_quotes_and_backslashes_stay_inside_their_literal() -> None:
    assert filters.quoted('a"b\\') == '"a\\"b\\\\"'


def test_the_fields_of_a_vector_stay_under_one_kilobyte() -> None:
    ids = filters.CHUNK_ID_BYTES + 36 + 36
    assert ids + sum(filters.FIELD_BYTES.values()) < 1024
