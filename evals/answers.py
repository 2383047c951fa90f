"""The local answerer: does the quoted text hold the known answer, and does every quotation stand in its source?"""

import re
from pathlib import Path

from evals.corpora import Pool, pool
from evals.ranking import CANDIDATES, Pipeline
from evals.report import Better, Row
from server.models.local.answerer import answer
from server.models.local.reranker import rerank
from server.models.port import AnswerTask, Source
from server.text.fold import canonical, locate
from server.text.language import Language
from server.text.sentences import spans

PASSAGES = 5
MAX_TOKENS = 600
EVERY = 4
"""One question in so many is answered."""

_QUOTE = re.compile(r"(?:« (.+?) »|“(.+?)”) ((?:\[\d+\])+)")


def sources_of(pipeline: Pipeline, asked: str) -> tuple[Source, ...]:
    """Return the best reranked paragraphs as numbered sources."""
    candidates = pipeline.fused(asked)[:CANDIDATES]
    scores = rerank(asked, [pipeline.paragraphs[index] for index in candidates])
    ranked = sorted(zip(scores, candidates, strict=True), key=lambda pair: -pair[0])[:PASSAGES]
    return tuple(Source(number, pipeline.paragraphs[index], "", 1) for number, (_, index) in enumerate(ranked, start=1))


def _rows(questions: Pool, language: Language) -> list[Row]:
    pipeline = Pipeline(questions.paragraphs)
    first = anywhere = possible = quoted = found = uncited = total = 0
    for asked, answers in list(zip(questions.questions, questions.answers, strict=True))[::EVERY]:
        sources = sources_of(pipeline, asked)
        text = "".join(answer(AnswerTask(asked, sources, language, MAX_TOKENS)))
        quotes = [(match[1] or match[2], match[3]) for match in _QUOTE.finditer(text)]
        held = [any(canonical(one) in canonical(quote) for one in answers) for quote, _ in quotes]
        first += bool(held) and held[0]
        anywhere += any(held)
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
        Row(f"{name}: quotations that stand in their source", found / quoted, 1.0, note=f"of {quoted}"),
        Row(f"{name}: sentences without a citation", uncited, 0, Better.LOWER),
    ]


def report(data: Path) -> list[Row]:
    """Answer a quarter of the questions from their five best passages."""
    sets = (("xquad_ar", Language.ARABIC), ("arcd_ar", Language.ARABIC), ("piaf_fr", Language.FRENCH))
    return [row for name, language in sets for row in _rows(pool(data, name), language)]
