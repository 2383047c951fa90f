"""Promises of prices and plans."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.retrieval import pricing
from server.retrieval.pricing import FRUGAL, FULL, PLANS, Quote

FRAMES = st.integers(20, 4_000)
BALANCES = st.integers(0, 50_000)


@given(FRAMES, BALANCES, st.integers(0, 100_000), st.integers(0, 100_000))
def test_no_charge_passes_the_quote_and_no_quote_the_wallet(frame: int, available: int, prompt: int, text: int) -> None:
    quote = pricing.choose(frame, available)
    if quote is not None:
        assert pricing.charge(quote.max_charge_tokens, prompt, text) <= quote.max_charge_tokens <= available
        assert quote.max_charge_tokens <= pricing.OVERAGE_CAP * quote.estimate_tokens


@given(FRAMES, BALANCES)
def test_what_is_held_never_exceeds_the_wallet(frame: int, available: int) -> None:
    quote = pricing.choose(frame, available)
    assert quote is None or quote.estimate_tokens <= available


@given(FRAMES)
def test_the_quote_covers_the_whole_plan_of_a_full_wallet(frame: int) -> None:
    quote = pricing.choose(frame, 10**9)
    assert quote is not None
    assert quote.plan is FULL
    assert quote.max_charge_tokens >= quote.estimate_tokens


def test_a_wallet_with_a_quarter_of_the_estimate_still_gets_an_answer() -> None:
    frame = 250
    quote = pricing.choose(frame, pricing.estimate_tokens(frame, FULL) // 4)
    assert quote is not None
    assert quote.plan.small


def test_a_wallet_that_holds_no_plan_gets_no_quote() -> None:
    assert pricing.choose(250, pricing.estimate_tokens(250, FRUGAL) - 1) is None


@given(FRAMES)
def test_each_plan_is_cheaper_than_the_one_before(frame: int) -> None:
    estimates = [pricing.estimate_tokens(frame, plan) for plan in PLANS]
    assert estimates == sorted(estimates, reverse=True)


@given(st.integers(0, 10_000), st.integers(50, 10_000))
def test_the_model_is_never_given_room_beyond_the_quote(prompt: int, maximum: int) -> None:
    assert prompt + pricing.answer_budget(Quote(FULL, maximum, maximum), prompt) <= maximum


@given(st.lists(st.integers(1, 600), min_size=1, max_size=30), st.integers(1, 4_000), st.integers(1, 10))
def test_chosen_passages_fit_and_keep_their_order(sizes: list[int], room: int, most: int) -> None:
    taken = pricing.fitting(sizes, room, most)
    assert taken == sorted(set(taken))
    assert 1 <= len(taken) <= most
    assert sum(sizes[place] for place in taken) <= max(room, sizes[0])


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_leaves_room_for_its_longest_answer(plan: pricing.Plan) -> None:
    assert pricing.max_tokens(250, plan) - 250 - plan.context_tokens == plan.max_answer_tokens
