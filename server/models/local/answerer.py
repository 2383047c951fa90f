"""Answers made of the sources' own sentences: the ones that answer best, quoted and cited.

Nothing is written that no source says. Where no passage says what makes the question this one, or the passages are in
another language, the answer says so.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

from server.models.local.bridge import bridge
from server.models.local.judging import Statement
from server.models.local.phrases import Phrases, phrases
from server.models.local.selection import choose
from server.models.local.specifics import unsaid
from server.models.port import AnswerTask
from server.text.language import Language
from server.text.tokens import count

QUOTES: Final = 3
QUOTES_OF_SMALL_PLAN: Final = 2
LONGEST_QUOTE_CHARACTERS: Final = 380
DIRECT_COVERAGE: Final = 0.3
"""Below this share of the question's weight a sentence is only the nearest one, not an answer."""

MOST_UNSAID_WORDS: Final = 3

_FINAL_STOP: Final = re.compile(r"""(?:\s*[.!?؟۔…]+(?:["'»”’)\]]|\s»)*)+\Z""")


def answer(task: AnswerTask) -> Iterator[str]:
    """Yield the sentences of the answer, each with its citation, within `task.max_tokens` (the first one always)."""
    frames = phrases(task.language)
    earlier, asked = _parts(task)
    chosen = choose(asked, task.sources, QUOTES_OF_SMALL_PLAN if task.small else QUOTES, earlier)
    if not chosen:
        yield frames.nothing
        return
    if chosen[0].coverage < DIRECT_COVERAGE:
        chosen = chosen[:1]
    chosen, words = _specific(chosen, task, (earlier, asked))
    left = task.max_tokens
    for place, statement in enumerate(chosen):
        frame = f"\n{frames.more}" if place else _lead(frames, task, statement, words)
        text = _fill(frame, statement)
        left -= count(text)
        if left < 0 and place:
            return
        yield text


def _specific(
    chosen: Sequence[Statement], task: AnswerTask, parts: Sequence[str]
) -> tuple[list[Statement], tuple[str, ...]]:
    """Return the statements whose sources say most of what makes the question this one, and what they do not say."""
    sources = {source.number: source for source in task.sources}
    told_by = [sources[statement.numbers[0]] for statement in chosen]
    silent = [tuple(chain(*words)) for words in zip(*(unsaid(part, told_by) for part in parts), strict=True)]
    fewest = min(silent, key=len)
    kept = [each for each, words in zip(chosen, silent, strict=True) if each.place or len(words) == len(fewest)]
    return kept, fewest


def _parts(task: AnswerTask) -> tuple[str, str]:
    """Return the earlier question that a question leans on, or nothing, and what it asks itself."""
    before = (turn.question for turn in reversed(task.history))
    earlier = next((each for each in before if task.question.startswith(f"{each} ")), "")
    return earlier, task.question.removeprefix(earlier).strip()


def _lead(frames: Phrases, task: AnswerTask, best: Statement, silent: Sequence[str]) -> str:
    """Return the first sentence's frame: plain, only the nearest passage, or passages in another language."""
    if silent:
        return frames.lead_silent.replace("{words}", ", ".join(silent[:MOST_UNSAID_WORDS]))
    if best.coverage < DIRECT_COVERAGE:
        return frames.lead_closest
    kin = {Language.ARABIC, Language.HASSANIYA}
    if best.language is Language.OTHER or best.language is task.language or {best.language, task.language} == kin:
        return frames.lead
    carried = bridge(task.question, best.language)
    pairs = ", ".join(f"{pair.said} : {pair.means}" for pair in carried.pairs[:3]) if carried else ""
    named = frames.lead_foreign.replace("{language}", frames.language_names[best.language])
    return named.replace("{terms}", f" ({pairs})" if pairs else "")


def _fill(frame: str, statement: Statement) -> str:
    quote = _quotable(statement.text)
    quoted = f"“{quote}”" if "«" in quote or "»" in quote else f"« {quote} »"
    numbers = "][".join(map(str, statement.numbers))
    return frame.replace("{quote}", quoted).replace("{number}", numbers)


def _quotable(text: str) -> str:
    """Return a sentence as it is quoted: on one line, without its final full stop, cut at a word when very long."""
    line = _FINAL_STOP.sub("", " ".join(text.split()))
    if len(line) <= LONGEST_QUOTE_CHARACTERS:
        return line
    return line[:LONGEST_QUOTE_CHARACTERS].rsplit(" ", 1)[0].rstrip(" ,;،؛:.…!?؟")
