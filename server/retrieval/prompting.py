"""What goes into the prompt: the passages and earlier turns that a plan and its quote leave room for.

Sizes come from the token counts that the corpus keeps, so composing a prompt counts almost nothing again. They are
upper bounds: the embedding encoding splits no text into fewer pieces than the models' own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from server.models.port import AnswerTask, Source, Turn
from server.retrieval import pricing
from server.retrieval.passage import Passage
from server.text.figures import same_figures
from server.text.language import Language
from server.text.tokens import boundaries, count

SOURCE_MARKUP_TOKENS = 24
"""What surrounds a source in a prompt: its number, page and separators."""
LEAST_SOURCE_TOKENS = 24
"""A source is cut to no less than this."""
TURN_CHARACTERS = 1_200
"""How much of an earlier answer a follow-up question sees."""
COPY_SHARE = 0.9
"""A passage with this share of its different words in a better one, and the same figures, is a copy of it."""

STRETCH_CHARACTERS = 16

_SENTENCE_END = re.compile(r"[.!?؟۔…\n](?=\s|$)")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A task for the model, the passages its source numbers mean, and its size."""

    task: AnswerTask
    passages: tuple[Passage, ...]
    tokens: int


def frame(question: str, language: Language, history: Sequence[Turn]) -> AnswerTask:
    """Return the task without sources; its size is what every plan's price starts from."""
    return AnswerTask(question, (), language, pricing.LEAST_ANSWER_TOKENS, tuple(history))


def restated(bare: AnswerTask, bare_tokens: int, question: str) -> tuple[AnswerTask, int]:
    """Return the task with the question as it reads without its conversation, and its size."""
    if question == bare.question:
        return bare, bare_tokens
    return replace(bare, question=question), bare_tokens + max(0, count(question) - count(bare.question))


def compose(bare: AnswerTask, bare_tokens: int, passages: Sequence[Passage], quote: pricing.Quote) -> Prompt:
    """Return the prompt with as many passages (best first, at least one) as the plan takes and the quote can pay.

    Copies of a better passage are left out: a lesson that is in the library twice would be read and paid for twice.
    """
    passages = distinct(passages)
    room = min(quote.plan.context_tokens, quote.max_charge_tokens - pricing.LEAST_ANSWER_TOKENS - bare_tokens)
    around = [_title_tokens(passage.document_title) + SOURCE_MARKUP_TOKENS for passage in passages]
    sizes = [passage.token_count + extra for passage, extra in zip(passages, around, strict=True)]
    places = pricing.fitting(sizes, room, quote.plan.passages)
    chosen = tuple(passages[place] for place in places)
    texts = [passage.text for passage in chosen]
    tokens = bare_tokens + sum(sizes[place] for place in places)
    if sizes[places[0]] > room:
        texts[0] = cut(texts[0], max(LEAST_SOURCE_TOKENS, room - around[places[0]]))
        tokens = bare_tokens + around[places[0]] + count(texts[0])
    sources = tuple(
        Source(number, text, passage.document_title, passage.page)
        for number, (text, passage) in enumerate(zip(texts, chosen, strict=True), start=1)
    )
    task = AnswerTask(
        question=bare.question,
        sources=sources,
        language=bare.language,
        max_tokens=max(pricing.LEAST_ANSWER_TOKENS, pricing.answer_budget(quote, tokens)),
        history=bare.history,
        small=quote.plan.small,
    )
    return Prompt(task, chosen, tokens)


def distinct(passages: Sequence[Passage]) -> list[Passage]:
    """Return the passages without those that a better one holds already."""
    kept: list[Passage] = []
    for passage in passages:
        if not any(_is_copy(passage.text, better.text) for better in kept):
            kept.append(passage)
    return kept


def _is_copy(text: str, better: str) -> bool:
    # What no stretch has in common word for word need not be compared in whole: that takes fifty times as long.
    third = len(text) // 3
    if not any(text[at : at + STRETCH_CHARACTERS] in better for at in (third, 2 * third)):
        return False
    words, held = set(text.split()), set(better.split())
    return len(words & held) >= COPY_SHARE * len(words) and same_figures(text, better)


def cut(text: str, max_tokens: int) -> str:
    """Return the beginning of a text within `max_tokens`, ending with a sentence where one ends in its second half."""
    places = boundaries(text)
    if len(places) <= max_tokens + 1:
        return text
    head = text[: int(places[max_tokens])]
    ends = [match.end() for match in _SENTENCE_END.finditer(head, len(head) // 2)]
    return head[: ends[-1]] if ends else head[: max(head.rfind(" "), 0) or len(head)]


def recent(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Return the latest turns that fit into HISTORY_TOKENS, oldest first, long answers shortened."""
    room = pricing.HISTORY_TOKENS
    kept: list[Turn] = []
    for turn in reversed(turns):
        short = Turn(turn.question[:TURN_CHARACTERS], turn.answer[:TURN_CHARACTERS])
        room -= count(short.question) + count(short.answer)
        if room < 0:
            break
        kept.append(short)
    return tuple(reversed(kept))


@lru_cache(4096)
def _title_tokens(title: str) -> int:
    return count(title)
