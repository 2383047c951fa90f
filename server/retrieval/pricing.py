"""What an answer may cost: plans, estimates and the maximum that is quoted and never passed.

The price of an answer is the tokens that its model call processed: prompt plus completion, as the provider counts them
or, where it does not, as we do. A plan bounds both, so the maximum is known before the question is searched. What is
held is the estimate, not the maximum: holding the worst case would lock small wallets out (LiteLLM PR #38647).
"""

from collections.abc import Sequence
from dataclasses import dataclass

OVERAGE_CAP = 2
"""A charge never passes this many times its estimate, nor does the quote."""
HISTORY_TOKENS = 900
"""Room that earlier turns of a conversation may take in a prompt."""
LEAST_ANSWER_TOKENS = 32
"""A prompt leaves at least this much room for the answer."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much an answer may read and write. `context_tokens` bounds the sources in the prompt."""

    name: str
    passages: int
    context_tokens: int
    likely_answer_tokens: int
    max_answer_tokens: int
    small: bool


FULL = Plan("full", passages=8, context_tokens=3_600, likely_answer_tokens=350, max_answer_tokens=900, small=False)
LEAN = Plan("lean", passages=4, context_tokens=1_500, likely_answer_tokens=250, max_answer_tokens=500, small=True)
FRUGAL = Plan("frugal", passages=2, context_tokens=500, likely_answer_tokens=120, max_answer_tokens=240, small=True)
PLANS = (FULL, LEAN, FRUGAL)
"""Best first; a wallet that cannot hold one plan's estimate is offered the next."""


@dataclass(frozen=True, slots=True)
class Quote:
    """A plan with its price for one question, in tokens."""

    plan: Plan
    estimate_tokens: int
    max_charge_tokens: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a question would cost before it is asked. `max_tokens` holds whatever plan applies later."""

    min_tokens: int
    likely_tokens: int
    max_tokens: int
    affordable: bool
    cheaper_plan: bool


def estimate_tokens(frame_tokens: int, plan: Plan) -> int:
    """Return the likely cost: the prompt without sources, room for the sources, a usual answer."""
    return frame_tokens + plan.context_tokens + plan.likely_answer_tokens


def max_tokens(frame_tokens: int, plan: Plan) -> int:
    """Return the most that a plan can cost."""
    whole = frame_tokens + plan.context_tokens + plan.max_answer_tokens
    return min(OVERAGE_CAP * estimate_tokens(frame_tokens, plan), whole)


def choose(frame_tokens: int, available_tokens: int) -> Quote | None:
    """Return the best plan that a wallet can hold, with a maximum it can pay; None when it can hold none."""
    for plan in PLANS:
        estimate = estimate_tokens(frame_tokens, plan)
        if estimate <= available_tokens:
            return Quote(plan, estimate, min(max_tokens(frame_tokens, plan), available_tokens))
    return None


def answer_budget(quote: Quote, prompt_tokens: int) -> int:
    """Return the completion tokens that a prompt leaves within the quote; below LEAST_ANSWER_TOKENS it is too long."""
    return min(quote.plan.max_answer_tokens, quote.max_charge_tokens - prompt_tokens)


def charge(quote_max_tokens: int, prompt_tokens: int, completion_tokens: int) -> int:
    """Return what a finished, stopped or broken answer costs; whatever was used above the quote is ours to pay."""
    return min(quote_max_tokens, prompt_tokens + completion_tokens)


def fitting(sizes: Sequence[int], room: int, most: int) -> list[int]:
    """Return which passages (by place, best first) a prompt takes: those that still fit into `room`, at most `most`.

    `sizes` are their tokens in the prompt. The best one is always taken; it may have to be cut.
    """
    taken: list[int] = []
    for place, size in enumerate(sizes):
        if len(taken) == most:
            break
        if size <= room or not taken:
            taken.append(place)
            room -= size
    return taken
