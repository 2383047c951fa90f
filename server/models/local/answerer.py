"""Answers made of the sources' own sentences: the ones that answer best, quoted and cited.

Nothing is written that no source says. Where the passages cover only part of the question, or are in another language,
the answer says so.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from server.models.local.candidates import bridge
from server.models.local.evidence import question
from server.models.local.judging import Statement
from server.models.local.phrases import Phrases, phrases
from server.models.local.selection import choose
from server.models.port import AnswerTask, Source
from server.text.analysis import terms
from server.text.detection import detect
from server.text.dialect import asks_in_latin
from server.text.fold import canonical
from server.text.glossary import known_terms, render
from server.text.language import Language
from server.text.ordinals import ordinals
from server.text.stopwords import STOP_WORDS
from server.text.tokens import count

QUOTES: Final = 3
QUOTES_OF_SMALL_PLAN: Final = 2
LONGEST_QUOTE_CHARACTERS: Final = 380
DIRECT_COVERAGE: Final = 0.3
"""Below this share of the question's weight a sentence is only the nearest one, not an answer."""

MISSING_WEIGHT: Final = 0.6
MOST_MISSING_WORDS: Final = 3
INSTRUCTIONS: Final = "examen"
"""The glossary's subject for words such as "calculer": no text needs to hold them."""

_ASKING_WORDS: Final = """
    dit dis dire disent enonce enoncee enoncer explique expliquer signifie appelle appele selon decrit passe
    يقول قال تقول فسر اذكر معني يعني شرح
"""
ASKING: Final = frozenset(_ASKING_WORDS.split())
"""Words, in canonical form, that ask for something and that no text needs to hold."""

_FINAL_STOP: Final = re.compile(r"""(?:\s*[.!?؟۔…]+(?:["'»”’)\]]|\s»)*)+\Z""")
_WORD: Final = re.compile(r"[^\W_]+")


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
    missing = _missing(task.question, task.sources)
    left = task.max_tokens
    for place, statement in enumerate(chosen):
        last = place == len(chosen) - 1
        tail = frames.missing.replace("{words}", missing) if last and missing else ""
        frame = f"\n{frames.more}" if place else _lead(frames, task, statement)
        text = _fill(frame, statement, tail)
        left -= count(text)
        if left < 0 and place:
            return
        yield text


def _parts(task: AnswerTask) -> tuple[str, str]:
    """Return the earlier question that a question leans on, or nothing, and what it asks itself."""
    before = (turn.question for turn in reversed(task.history))
    earlier = next((each for each in before if task.question.startswith(f"{each} ")), "")
    return earlier, task.question.removeprefix(earlier).strip()


def _lead(frames: Phrases, task: AnswerTask, best: Statement) -> str:
    """Return the first sentence's frame: plain, only the nearest passage, or passages in another language."""
    if best.coverage < DIRECT_COVERAGE:
        return frames.lead_closest
    kin = {Language.ARABIC, Language.HASSANIYA}
    if best.language is Language.OTHER or best.language is task.language or {best.language, task.language} == kin:
        return frames.lead
    carried = bridge(task.question, best.language)
    pairs = ", ".join(f"{pair.said} : {pair.means}" for pair in carried.pairs[:3]) if carried else ""
    named = frames.lead_foreign.replace("{language}", frames.language_names[best.language])
    return named.replace("{terms}", f" ({pairs})" if pairs else "")


def _fill(frame: str, statement: Statement, tail: str) -> str:
    quote = _quotable(statement.text)
    quoted = f"“{quote}”" if "«" in quote or "»" in quote else f"« {quote} »"
    numbers = "][".join(map(str, statement.numbers))
    return frame.replace("{quote}", quoted).replace("{number}", numbers).replace("{tail}", tail)


def _quotable(text: str) -> str:
    """Return a sentence as it is quoted: on one line, without its final full stop, cut at a word when very long."""
    line = _FINAL_STOP.sub("", " ".join(text.split()))
    if len(line) <= LONGEST_QUOTE_CHARACTERS:
        return line
    return line[:LONGEST_QUOTE_CHARACTERS].rsplit(" ", 1)[0].rstrip(" ,;،؛:.…!?؟")


def _missing(asked: str, sources: Sequence[Source]) -> str:
    """Return the weighty words of the question that no source holds, as they were written, or nothing.

    Nothing as well when no word at all is held: then the whole answer is only the nearest passage. Of a language that
    is not known, neither is which of its words carry weight.
    """
    language = detect(asked).language
    if language is Language.OTHER:
        return ""
    weights = question(asked).weights
    held = {stem for source in sources for stem in terms(source.text)}
    if not held & set(weights):
        return ""
    instructions = {
        asked[start:end] for start, end, entry in known_terms(asked, language) if entry.subject == INSTRUCTIONS
    }
    unsaid = [
        word
        for word in dict.fromkeys(_WORD.findall(asked))
        if canonical(word) not in STOP_WORDS | ASKING
        and not asks_in_latin(canonical(word))
        and word not in instructions
        and max((weights.get(stem, 0.0) for stem in terms(word)), default=0.0) >= MISSING_WEIGHT
        and not held.intersection(terms(word))
        and not any(_means_held(word, language, target, held) for target in (Language.FRENCH, Language.ARABIC))
    ]
    return ", ".join(unsaid[:MOST_MISSING_WORDS])


def _asks(word: str) -> bool:
    """Say whether a canonical word only makes the question, joins it to the one before ("ومتى") or counts."""
    return bool({word, word.removeprefix("و")} & (STOP_WORDS | ASKING)) or bool(ordinals(word))


def _means_held(word: str, source: Language, target: Language, held: set[str]) -> bool:
    rendering = render(word, source, target)
    return rendering is not None and bool(held.intersection(terms(rendering.search)))
