"""Promises of prices and plans."""

from hypothesis import given
from hypothesis import strategies as st

from server.retrieval import pricing
from server.retrieval.pricing import FULL, PLANS, Quote

FRAMES = st.integers(20, 4_000)
BALANCES = st.integers(0, 50_000)


@given(FRAMES, BALANCES, st.integers(0, 100_000), st.integers(0, 100_000))
def test_no_charge_passes_the_quote_and_no_quote_the_wallet(frame: int, available: int, prompt: int, text: int) -> None:
    quote = pricing.choose(frame, available)
    if quote is not None:
        assert pricing.charge(quote.max_charge_tokens, prompt, text) <= quote.max_charge_tokens <= available


@given(FRAMES, BALANCES)
def test_a_wallet_gets_the_best_plan_it_can_hold(frame: int, available: int) -> None:
    quote = pricing.choose(frame, available)
    better = PLANS[: PLANS.index(quote.plan)] if quote and quote.plan in PLANS else PLANS
    assert all(pricing.quote(frame, plan).max_charge_tokens > available for plan in better)


@given(FRAMES, st.integers(0, 10_000))
def test_any_wallet_above_the_least_gets_an_answer(frame: int, more: int) -> None:
    assert pricing.choose(frame, pricing.least_tokens(frame) + more) is not None
    assert pricing.choose(frame, pricing.least_tokens(frame) - 1) is None


@given(FRAMES)
def test_each_plan_is_cheaper_than_the_one_before(frame: int) -> None:
    prices = [pricing.quote(frame, plan).max_charge_tokens for plan in PLANS]
    assert prices == sorted(set(prices), reverse=True)


@given(st.integers(0, 10_000), st.integers(50, 10_000))
def test_the_model_is_never_given_room_beyond_the_quote(prompt: int, maximum: int) -> None:
    assert prompt + pricing.answer_budget(Quote(FULL, maximum), prompt) <= maximum


@given(st.lists(st.integers(1, 600), min_size=1, max_size=30), st.integers(1, 4_000), st.integers(1, 10))
def test_chosen_passages_fit_and_keep_their_order(sizes: list[int], room: int, most: int) -> None:
    taken = pricing.fitting(sizes, room, most)
    assert taken == sorted(set(taken))
    assert 1 <= len(taken) <= most
    assert sum(sizes[place] for place in taken) <= max(room, sizes[0])
