"""Promises of page tokens."""

import string
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.database.pages import Page, cut, page_size, position
from server.refusal import Invalid

KINDS = (datetime, UUID)
FILTERS = {"status": "HELD"}


def token(filters: object = FILTERS) -> str:
    rows = [(datetime(2026, 1, day, tzinfo=UTC), uuid4()) for day in (3, 2, 1)]
    return cut(rows, 2, filters, key=lambda row: row).next_page_token


@pytest.mark.parametrize(("requested", "shown"), [(0, 50), (1, 1), (200, 200), (201, 200)])
def test_sizes_are_defaulted_and_capped(requested: int, shown: int) -> None:
    assert page_size(requested) == shown


def test_the_last_page_has_no_token() -> None:
    assert cut([1, 2], 2, FILTERS, key=lambda row: (row,)) == Page((1, 2))


def test_an_empty_list_is_one_empty_page() -> None:
    assert cut([], 2, FILTERS, key=lambda row: (row,)) == Page(())


@given(st.datetimes(timezones=st.just(UTC)), st.uuids(), st.text(max_size=50), st.integers(-(2**63), 2**63 - 1))
def test_a_token_leads_back_to_its_key(at: datetime, row_id: UUID, name: str, number: int) -> None:
    key = (at, row_id, name, number)
    page = cut([key, key], 1, FILTERS, key=lambda row: row)
    assert position(page.next_page_token, FILTERS, datetime, UUID, str, int) == key


def test_a_token_is_safe_in_addresses() -> None:
    assert set(token()) <= set(string.ascii_letters + string.digits + "-_")


def test_a_token_of_another_list_is_refused() -> None:
    with pytest.raises(Invalid):
        position(token({"status": "EXPIRED"}), FILTERS, *KINDS)


@pytest.mark.parametrize("damaged", ["x", "é", "AAAA", "bnVsbA", "WzFd", "=", "A" * 5000, "W1tbW1tb"])
def test_a_damaged_token_is_refused_by_name_of_its_field(damaged: str) -> None:
    with pytest.raises(Invalid) as refused:
        position(damaged, FILTERS, *KINDS)
    assert refused.value.violations[0].field == "page_token"


@given(st.text(max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    if text:
        with pytest.raises(Invalid):
            position(text, FILTERS, *KINDS)
