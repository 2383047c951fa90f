"""Across languages: French and Hassaniya questions on Arabic texts and the reverse, with and without the glossary.

XQuAD shows what a lexical search does across languages by itself (nothing); our own small school set, written in
French, Arabic and Hassaniya, shows what the term bridge adds. The distractors are the paragraphs of ARCD and PIAF.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.corpora import OWN_DATA, lines, pool
from evals.ranking import FullText, Pipeline
from evals.report import Row
from evals.retrieval import quality
from server.retrieval.query import TARGETS
from server.text.analysis import words
from server.text.glossary import render
from server.text.language import Language
from server.text.stemming import stem
from server.text.stopwords import STOP_WORDS
from server.text.transliteration import arabic_skeleton, latin_skeleton, spellings
from server.vectors.port import Hit

FRENCH, ARABIC, HASSANIYA = Language.FRENCH, Language.ARABIC, Language.HASSANIYA
DIALECT_SHARE = 0.9
"""Recall of Hassaniya questions to reach, as a share of the same questions asked in the language of the texts."""

LEAST_BRIDGED = 0.5
"""MRR@10 that the glossary alone is to reach from English to Arabic, where the words as asked find 0.16."""

EVERY = 3
"""One question in so many is asked of the library in both languages."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """The same fact and question in three languages (Hassaniya in both scripts)."""

    french_passage: str
    arabic_passage: str
    french: str
    arabic: str
    hassaniya: str
    hassaniya_latin: str


def lessons() -> list[Lesson]:
    """Read the hand-written set."""
    rows = (OWN_DATA / "school_bridge.tsv").read_text("utf-8").splitlines()
    return [Lesson(*row.split("\t")) for row in rows if not row.startswith("#")]


def _orders(
    pipeline: Pipeline, questions: Sequence[str], source: Language, target: Language, bridge: bool
) -> list[list[int]]:
    orders: list[list[int]] = []
    for asked in questions:
        rendering = render(asked, source, target) if bridge else None
        others = [pipeline.text.search(rendering.search)] if rendering else []
        orders.append(pipeline.ranked(asked, others))
    return orders


def _xquad(data: Path) -> list[Row]:
    arabic, english = pool(data, "xquad_ar"), pool(data, "xquad_en")
    rows: list[Row] = []
    for bridge, label in ((False, "no bridge"), (True, "with bridge")):
        orders = _orders(Pipeline(arabic.paragraphs), english.questions, Language.OTHER, ARABIC, bridge)
        rows += quality(orders, english.gold).rows(
            f"English questions, Arabic texts (XQuAD), {label}", LEAST_BRIDGED if bridge else None
        )
    return rows


def _mixed(data: Path) -> list[Row]:
    """Search a library in both languages: a question is to find its own language's page, or else the other's."""
    french, arabic = pool(data, "piaf_fr"), pool(data, "arcd_ar")
    translated, english = pool(data, "xquad_ar"), pool(data, "xquad_en")
    in_french, in_arabic = french.paragraphs, arabic.paragraphs + translated.paragraphs
    library = Pipeline(in_french + in_arabic)
    parts = {FRENCH: (FullText(in_french), 0), ARABIC: (FullText(in_arabic), len(in_french))}

    def asked(question: str, source: Language) -> list[int]:
        others = []
        for target in (language for language in TARGETS[source] if language is not source):
            if rendering := render(question, source, target):
                text, start = parts[target]
                hits = text.search(rendering.search)
                others.append([Hit(str(int(hit.chunk_id) + start), hit.score) for hit in hits])
        return library.ranked(question, others)

    rows: list[Row] = []
    for name, questions, source, start, limit in (
        ("French questions (PIAF)", french, FRENCH, 0, 0.78),
        ("Arabic questions (ARCD)", arabic, ARABIC, len(in_french), 0.79),
        ("English questions (XQuAD)", english, Language.OTHER, len(in_french) + len(arabic.paragraphs), 0.38),
    ):
        orders = [asked(question, source) for question in questions.questions[::EVERY]]
        gold = [start + right for right in questions.gold[::EVERY]]
        rows += quality(orders, gold).rows(f"library in both languages, {name}", limit)[:1]
    return rows


def _spelled(data: Path) -> Row:
    """Spell the Latin-letter words of sentences that are there in both scripts, where the words stand one to one."""
    found = total = 0
    for row in lines(data / "hassaniya_dah.jsonl"):
        latin, arabic = words(row["mey_lat"]), words(row["mey_ar"])
        for said, right in zip(latin, arabic, strict=False) if len(latin) == len(arabic) else ():
            if len(said) > 3 and not {said, right} & STOP_WORDS and latin_skeleton(said) == arabic_skeleton(right):
                total += 1
                found += stem(right) in {stem(spelling) for spelling in spellings(said) if spelling}
    return Row(
        "Hassaniya words in Latin letters: right stem among the spellings", found / total, 0.85, note=f"of {total}"
    )


def report(data: Path) -> list[Row]:
    """Measure every direction on the school set."""
    facts = lessons()
    gold = list(range(len(facts)))
    arabic = Pipeline([lesson.arabic_passage for lesson in facts] + pool(data, "arcd_ar").paragraphs)
    french = Pipeline([lesson.french_passage for lesson in facts] + pool(data, "piaf_fr").paragraphs)
    rows = [*_xquad(data), *_mixed(data), _spelled(data)]
    for name, texts, target, asked in (("Arabic", arabic, ARABIC, "arabic"), ("French", french, FRENCH, "french")):
        same = quality(_orders(texts, [getattr(fact, asked) for fact in facts], target, target, bridge=False), gold)
        rows += same.rows(f"school, {name} texts, {name} questions")
        for kind, source in (
            ("french", FRENCH),
            ("arabic", ARABIC),
            ("hassaniya", HASSANIYA),
            ("hassaniya_latin", HASSANIYA),
        ):
            if kind == asked:
                continue
            questions = [getattr(fact, kind) for fact in facts]
            for bridge in (False, True):
                found = quality(_orders(texts, questions, source, target, bridge), gold)
                label = f"school, {name} texts, {kind} questions, {'with' if bridge else 'no'} bridge"
                rows += found.rows(label)[:1]
                if bridge and kind == "hassaniya":
                    share = found.recall[10] / same.recall[10]
                    rows.append(Row(f"school, {name} texts: Hassaniya R@10 over {name} R@10", share, DIALECT_SHARE))
    return rows
