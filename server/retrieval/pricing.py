"""What an answer may cost: plans and the maximum that is quoted, held and never passed.

The price of an answer is the tokens that its model call processed: prompt plus completion, as the provider counts them
or, where it does not, as we do. A plan bounds both tightly, so the maximum is known before anything is searched and is
little more than the likely price. It is what is held: a charge never needs more than its hold, and nothing has to be
written off. A wallet that cannot hold one plan is offered a smaller one instead of a refusal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
"""Best first; a wallet that can hold none of them gets one passage, as long as it can pay for (`_last`)."""
LAST_CONTEXT_TOKENS = 80
LAST_ANSWER_SHARE = 0.35


@dataclass(frozen=True, slots=True)
class Quote:
    """A plan with its price for one question: what is held, and what the charge never passes."""

    plan: Plan
    max_charge_tokens: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a question would cost before it is asked. `max_tokens` holds whatever plan applies later."""

    min_tokens: int
    likely_tokens: int
    max_tokens: int
    affordable: bool
    cheaper_plan: bool


def quote(frame_tokens: int, plan: Plan) -> Quote:
    """Return a plan's price: the prompt without sources, the sources and the longest answer."""
    return Quote(plan, frame_tokens + plan.context_tokens + plan.max_answer_tokens)


def choose(frame_tokens: int, available_tokens: int) -> Quote | None:
    """Return the best plan that a wallet can hold; None when it can hold none."""
    quotes = (quote(frame_tokens, plan) for plan in PLANS)
    best = next((each for each in quotes if each.max_charge_tokens <= available_tokens), None)
    if best is None and available_tokens >= least_tokens(frame_tokens):
        return quote(frame_tokens, _last(available_tokens - frame_tokens))
    return best


def least_tokens(frame_tokens: int) -> int:
    """Return what a wallet must hold for any answer at all."""
    return frame_tokens + LAST_CONTEXT_TOKENS + LEAST_ANSWER_TOKENS


def _last(room: int) -> Plan:
    """Return the plan of one short passage and a short answer that takes all the room."""
    answer = max(LEAST_ANSWER_TOKENS, min(FRUGAL.max_answer_tokens, int(room * LAST_ANSWER_SHARE)))
    return Plan("last", 1, room - answer, answer, answer, small=True)


def answer_budget(quoted: Quote, prompt_tokens: int) -> int:
    """Return the completion tokens that a prompt leaves within the quote; below LEAST_ANSWER_TOKENS it is too long."""
    return min(quoted.plan.max_answer_tokens, quoted.max_charge_tokens - prompt_tokens)


def charge(max_charge_tokens: int, prompt_tokens: int, completion_tokens: int) -> int:
    """Return what a finished, stopped or broken answer costs; whatever was used above the quote is ours to pay."""
    return min(max_charge_tokens, prompt_tokens + completion_tokens)


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
