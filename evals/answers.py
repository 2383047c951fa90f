"""The local answerer: does the quoted text hold the known answer, and does every quotation stand in its source?

And is it said when the passages do not answer: of every question of the sets one paragraph does, of those in
`data/unanswerable.tsv` no sample does, though each asks like one that a sample answers.
"""

import re
from pathlib import Path

from evals.corpora import OWN_DATA, Pool, pool
from evals.ranking import Pipeline
from evals.report import Better, Row
from server.models.local.answerer import answer
from server.models.local.phrases import phrases
from server.models.port import AnswerTask, Source
from server.text.fold import canonical, locate
from server.text.glossary import render
from server.text.language import Language
from server.text.sentences import spans

PASSAGES = 5
MAX_TOKENS = 600
MOST_CAUTIOUS = 0.07
MOST_PLAIN = 0.12
SAMPLES = Path(__file__).parents[1] / "samples"
EVERY = 4
"""One question in so many is answered."""

_QUOTE = re.compile(r"(?:« (.+?) »|“(.+?)”) ((?:\[\d+\])+)")


def sources_of(pipeline: Pipeline, asked: str) -> tuple[Source, ...]:
    """Return the best reranked paragraphs as numbered sources."""
    ranked = pipeline.ranked(asked)[:PASSAGES]
    return tuple(Source(number, pipeline.paragraphs[index], "", 1) for number, index in enumerate(ranked, start=1))


def _cautious(text: str, language: Language) -> bool:
    """Say whether an answer calls itself none, or its quotation only the nearest passage."""
    frames = phrases(language)
    return text.startswith(
        tuple(each.split("{")[0] for each in (frames.lead_silent, frames.lead_closest, frames.nothing))
    )


def _rows(questions: Pool, language: Language) -> list[Row]:
    pipeline = Pipeline(questions.paragraphs)
    first = anywhere = possible = quoted = found = uncited = cautious = total = 0
    for asked, answers in list(zip(questions.questions, questions.answers, strict=True))[::EVERY]:
        sources = sources_of(pipeline, asked)
        text = "".join(answer(AnswerTask(asked, sources, language, MAX_TOKENS)))
        quotes = [(match[1] or match[2], match[3]) for match in _QUOTE.finditer(text)]
        held = [any(canonical(one) in canonical(quote) for one in answers) for quote, _ in quotes]
        first += bool(held) and held[0]
        anywhere += any(held)
        cautious += any(held) and _cautious(text, language)
        possible += any(canonical(one) in canonical(source.text) for one in answers for source in sources)
        for quote, marks in quotes:
            for mark in re.findall(r"\d+", marks)[:1]:
                quoted += 1
                found += locate(quote, sources[int(mark) - 1].text) is not None
        uncited += sum("[" not in text[start:end] for start, end in spans(text))
        total += 1
    name = questions.name
    return [
        Row(f"{name}: known answer in the passages", possible / total, note=f"of {total}"),
        Row(f"{name}: known answer in the first quotation", first / total),
        Row(f"{name}: known answer in any quotation", anywhere / total),
        Row(f"{name}: known answer quoted as no answer", cautious / total, MOST_CAUTIOUS, Better.LOWER),
        Row(f"{name}: quotations that stand in their source", found / quoted, 1.0, note=f"of {quoted}"),
        Row(f"{name}: sentences without a citation", uncited, 0, Better.LOWER),
    ]


def _unanswerable() -> list[Row]:
    """Ask the samples, cut at their headings, what none of them says."""
    texts = [path.read_text("utf-8") for path in sorted(SAMPLES.glob("*_*.md"))]
    pipeline = Pipeline(
        [section.strip() for text in texts for section in re.split(r"(?m)^#+ ", text) if section.strip()]
    )
    asked = (OWN_DATA / "unanswerable.tsv").read_text("utf-8").splitlines()
    plain = 0
    for line in asked:
        code, question = line.split("\t")
        carried = (render(question, Language(code), target) for target in (Language.FRENCH, Language.ARABIC))
        widened = " ".join((question, *(each.search for each in carried if each)))
        task = AnswerTask(question, sources_of(pipeline, widened), Language(code), MAX_TOKENS)
        plain += not _cautious("".join(answer(task)), Language(code))
    share = plain / len(asked)
    return [Row("unanswerable questions answered all the same", share, MOST_PLAIN, Better.LOWER, f"of {len(asked)}")]


def report(data: Path) -> list[Row]:
    """Answer a quarter of the questions from their five best passages, and the unanswerable ones."""
    sets = (("xquad_ar", Language.ARABIC), ("arcd_ar", Language.ARABIC), ("piaf_fr", Language.FRENCH))
    return [row for name, language in sets for row in _rows(pool(data, name), language)] + _unanswerable()
