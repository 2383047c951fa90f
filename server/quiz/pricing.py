"""What a quiz may cost: known from the number of questions before anything is searched. The unit is the token."""

from dataclasses import dataclass

OVERAGE_CAP = 2
"""A charge never passes this many times its estimate, nor does the quote."""
CONTEXT_TOKENS = 3_600
"""Room for the sources in the prompt."""
FRAME_TOKENS = 400
"""Instructions and topic."""
LIKELY_QUESTION_TOKENS = 130
MAX_QUESTION_TOKENS = 400
"""A drafted question with options, key, explanation and quote; drafts that do not hold count too."""


@dataclass(frozen=True, slots=True)
class Quote:
    """The price of a quiz: what is held, what the charge never passes, and what the model may read and write."""

    estimate_tokens: int
    max_charge_tokens: int
    context_tokens: int
    answer_tokens: int

    def owed(self, used_tokens: int) -> int:
        """Return what is charged for so much use; what was used above the quote is ours to pay."""
        return min(used_tokens, self.max_charge_tokens)


def quote(question_count: int) -> Quote:
    """Return the price of a quiz of so many questions."""
    prompt = FRAME_TOKENS + CONTEXT_TOKENS
    estimate = prompt + question_count * LIKELY_QUESTION_TOKENS
    answer = question_count * MAX_QUESTION_TOKENS
    return Quote(estimate, min(OVERAGE_CAP * estimate, prompt + answer), CONTEXT_TOKENS, answer)
