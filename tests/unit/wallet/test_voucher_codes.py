"""Voucher codes: how they read, what a typing mistake does, and that they come back the same."""

from itertools import combinations
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.wallet.voucher import ALPHABET, canonical, code_hash, make_code

KEY = b"k" * 32
BATCH = UUID(int=7)
quickly = settings(deadline=None, max_examples=30)
codes = st.builds(make_code, st.just(KEY), st.uuids(), st.integers(1, 1000))


@quickly
@given(codes)
def test_a_code_is_four_groups_of_four_symbols_without_lookalikes(code):
    groups = code.split("-")
    assert [len(group) for group in groups] == [4, 4, 4, 4]
    assert not set("".join(groups)) & set("ILOU")


@quickly
@given(codes)
def test_a_code_passes_its_own_check(code):
    assert canonical(code) == code.replace("-", "")


@quickly
@given(codes, st.integers(0, 15), st.sampled_from(ALPHABET))
def test_any_single_wrong_symbol_is_noticed(code, place, symbol):
    symbols = code.replace("-", "")
    wrong = symbols[:place] + symbol + symbols[place + 1 :]
    assert (canonical(wrong) is None) == (wrong != symbols)


@quickly
@given(codes)
def test_any_two_swapped_symbols_are_noticed(code):
    symbols = code.replace("-", "")
    for one, other in combinations(range(16), 2):
        swapped = list(symbols)
        swapped[one], swapped[other] = swapped[other], swapped[one]
        assert (canonical("".join(swapped)) is None) == (symbols[one] != symbols[other])


@pytest.mark.parametrize(
    "typed",
    [
        lambda code: code.lower(),
        lambda code: code.replace("-", " "),
        lambda code: code.replace("-", ""),
        lambda code: f"  {code}  ",
        lambda code: code.replace("-", "–"),
        lambda code: code.replace("0", "O").replace("1", "l"),
        lambda code: code.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")),
    ],
    ids=["lower case", "spaces", "no dashes", "padded", "typographic dashes", "lookalikes", "Arabic digits"],
)
def test_how_it_is_typed_does_not_matter(typed):
    for position in range(1, 50):
        code = make_code(KEY, BATCH, position)
        assert canonical(typed(code)) == code.replace("-", "")


@pytest.mark.parametrize("typed", ["", "U" * 16, "0" * 15, "0" * 17, "é" * 16, "قسيمة"])
def test_what_cannot_be_a_code_is_none(typed):
    assert canonical(typed) is None


def test_codes_of_a_batch_are_all_different():
    assert len({make_code(KEY, BATCH, position) for position in range(1, 1001)}) == 1000


def test_codes_depend_on_the_secret_the_batch_and_the_place():
    code = make_code(KEY, BATCH, 1)
    assert code == make_code(KEY, BATCH, 1)
    assert code not in {make_code(b"x" * 32, BATCH, 1), make_code(KEY, UUID(int=8), 1), make_code(KEY, BATCH, 2)}


def test_a_stored_hash_does_not_show_the_code():
    symbols = canonical(make_code(KEY, BATCH, 1)) or ""
    assert len(code_hash(symbols)) == 32
    assert symbols.encode() not in code_hash(symbols)
