"""Promises of prompts."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from server.models.port import Turn
from server.retrieval import pricing, prompting
from server.retrieval.passage import Passage
from server.retrieval.pricing import Quote
from server.text.language import Language
from server.text.tokens import count

LESSON = "La masse est une grandeur. La force se mesure en newtons. " * 30


def passage(text: str = LESSON, title: str = "Physique") -> Passage:
    return Passage("c" * 64, UUID(int=1), title, 1, text, 1.0, Language.FRENCH, 0, len(text), count(text))


def passages(count: int) -> list[Passage]:
    """Return passages of the same length that are no copies: each states another number."""
    return [passage(LESSON + f"Sa valeur est {number} N.", f"Leçon {number}") for number in range(10, 10 + count)]


def quote(plan: pricing.Plan = pricing.FULL, frame: int = 100) -> Quote:
    return pricing.quote(frame, plan)


FRAME = prompting.frame("Qu'est-ce qu'une force ?", Language.FRENCH, ())


def test_sources_are_numbered_as_the_passages_are_shown() -> None:
    prompt = prompting.compose(FRAME, 100, passages(4), quote())
    assert [source.title for source in prompt.task.sources] == [each.document_title for each in prompt.passages]
    assert [source.number for source in prompt.task.sources] == list(range(1, len(prompt.passages) + 1))


def test_a_prompt_and_its_longest_answer_stay_within_the_quote() -> None:
    for available in (pricing.least_tokens(100), 400, 700, 1_200, 3_000, 10_000):
        quoted = pricing.choose(100, available)
        prompt = prompting.compose(FRAME, 100, passages(10), quoted)
        assert prompt.tokens + prompt.task.max_tokens <= quoted.max_charge_tokens <= available


def test_a_prompt_counts_at_least_the_tokens_of_its_sources() -> None:
    prompt = prompting.compose(FRAME, 100, passages(10), quote())
    assert prompt.tokens >= 100 + sum(count(source.text) for source in prompt.task.sources)


def test_a_copy_of_a_better_passage_is_left_out_of_the_prompt() -> None:
    first, second = passages(2)
    copy = passage(first.text.replace("grandeur", "grandeur,", 1), "La même leçon")
    prompt = prompting.compose(FRAME, 100, [first, copy, second], quote())
    assert prompt.passages == (first, second)


def test_a_passage_larger_than_the_plan_is_cut_after_a_sentence() -> None:
    long = passage(LESSON * 20)
    prompt = prompting.compose(FRAME, 100, [long], quote(pricing.FRUGAL))
    [source] = prompt.task.sources
    assert count(source.text) <= pricing.FRUGAL.context_tokens
    assert long.text.startswith(source.text)
    assert source.text.endswith(".")


@given(st.text(max_size=2_000), st.integers(1, 50))
def test_a_cut_text_is_a_beginning_within_its_tokens(text: str, most: int) -> None:
    head = prompting.cut(text, most)
    assert text.startswith(head)


def test_the_latest_turns_are_kept_within_the_room() -> None:
    turns = [Turn(f"question {number}", "réponse " * 200) for number in range(6)]
    kept = prompting.recent(turns)
    assert kept
    assert [turn.question for turn in kept] == [turn.question for turn in turns[-len(kept) :]]
    assert sum(count(turn.question) + count(turn.answer) for turn in kept) <= pricing.HISTORY_TOKENS


def test_a_question_restated_is_priced_by_its_longer_form() -> None:
    bare, tokens = prompting.restated(FRAME, 100, "Qu'est-ce qu'une force, dans la deuxième loi de Newton ?")
    assert bare.question.endswith("Newton ?")
    assert tokens > 100
