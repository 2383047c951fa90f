"""Readers of the evaluation data: paragraph pools with questions, and sentences labelled with their language.

File names and schema are those of the data folder's README; `data/` beside this file holds what we wrote ourselves.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.text.detection import normalise
from server.text.fold import canonical
from server.text.glossary import entries
from server.text.language import Language

FRENCH_FRAMES = ("{}", "Définir : {}", "Qu'est-ce que {} ?", "Comment calculer {} ?", "Expliquer {} avec un exemple")
ARABIC_FRAMES = ("{}", "عرف {}", "ما هي {}؟", "ما هو {}؟", "كيف نحسب {}؟", "اشرح {} مع مثال", "احسب {}", "ما دور {}؟")

OWN_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Pool:
    """Paragraphs and questions; `gold[i]` is the index of the one paragraph that answers question i."""

    name: str
    paragraphs: list[str]
    questions: list[str]
    gold: list[int]
    answers: list[list[str]]


def pool(data: Path, name: str) -> Pool:
    """Read one question set, e.g. `xquad_ar`."""
    record = json.loads((data / f"{name}.json").read_text("utf-8"))
    place = {paragraph["id"]: index for index, paragraph in enumerate(record["paragraphs"])}
    questions = record["questions"]
    return Pool(
        name,
        [paragraph["text"] for paragraph in record["paragraphs"]],
        [question["q"] for question in questions],
        [place[question["p"]] for question in questions],
        [question["a"] for question in questions],
    )


def lines(path: Path) -> list[Any]:
    """Read a JSON-lines file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A sentence, its language, the corpus it came from and where it may be used (train, test or either)."""

    text: str
    language: Language
    corpus: str
    use: str = "either"

    def held_out(self, share: float) -> bool:
        """Say whether the sentence belongs to the held-out share: by a hash of its text, the same in every run."""
        if self.use != "either":
            return self.use == "test"
        digest = hashlib.sha256(canonical(self.text).encode()).digest()
        return int.from_bytes(digest[:4], "big") < share * 2**32


_SENTENCE = re.compile(r"(?<=[.!?؟،])\s+")


def _paragraph_sentences(data: Path, name: str, language: Language) -> Iterator[Labelled]:
    for paragraph in pool(data, name).paragraphs:
        for sentence in _SENTENCE.split(paragraph)[:12]:
            if len(sentence) > 15:
                yield Labelled(sentence, language, f"{name} paragraphs")


def _all_sentences(data: Path) -> Iterator[Labelled]:
    arabic, french, hassaniya, other = Language.ARABIC, Language.FRENCH, Language.HASSANIYA, Language.OTHER
    for name, language in (("xquad_ar", arabic), ("arcd_ar", arabic), ("piaf_fr", french), ("xquad_en", other)):
        for question in pool(data, name).questions:
            yield Labelled(question, language, f"{name} questions")
        yield from _paragraph_sentences(data, name, language)
    for row in lines(data / "exams_ar_fr.jsonl"):
        yield Labelled(row["q"], Language(row["lang"]), "exams")
        for _, choice in row["choices"]:
            if len(choice.split()) > 2:
                yield Labelled(choice, Language(row["lang"]), "exam choices", use="train")
    for row in lines(data / "tatoeba_ar_fr.jsonl"):
        yield Labelled(row["text"], Language(row["lang"]), "tatoeba")
    for row in lines(data / "hassaniya_dah.jsonl"):
        yield Labelled(row["mey_ar"], hassaniya, "dah")
        yield Labelled(row["mey_lat"], hassaniya, "dah")
        yield Labelled(row["en"], other, "dah")
    for row in lines(data / "hassaniya_rim_parallel.jsonl"):
        yield Labelled(row["ar"], arabic, "rim")
        yield Labelled(row["mey"], hassaniya, "rim")
    for dialogue in lines(data / "hassaniya_rim_support.jsonl"):
        for turn in dialogue:
            yield Labelled(turn, hassaniya, "rim")
    for line in (OWN_DATA / "other_languages.tsv").read_text("utf-8").splitlines():
        yield Labelled(line.split("\t")[1], other, "other languages")
    yield from _school_sentences()
    for line in (OWN_DATA / "hassaniya_school.tsv").read_text("utf-8").splitlines():
        use, text = line.split("\t")
        yield Labelled(text, hassaniya, "school", use=use)


def _school_sentences() -> Iterator[Labelled]:
    """Yield the terms of the glossary in short questions and the passages of the bridge set for training; its
    questions, which are the honest test of school language, for testing.
    """
    for number, entry in enumerate(entries()):
        arabic = entry.arabic[0] if " " in entry.arabic[0] else f"ال{entry.arabic[0].removeprefix('ال')}"
        # One word alone is told by little but having been met.
        for frame in dict.fromkeys(("{}", FRENCH_FRAMES[number % len(FRENCH_FRAMES)])):
            yield Labelled(frame.format(entry.french[0]), Language.FRENCH, "school", "train")
        yield Labelled(ARABIC_FRAMES[number % len(ARABIC_FRAMES)].format(arabic), Language.ARABIC, "school", "train")
    for line in (OWN_DATA / "school_bridge.tsv").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            cells = line.split("\t")
            languages = (Language.FRENCH, Language.ARABIC, *[Language.HASSANIYA] * 2)
            yield from (
                Labelled(cell, language, "school", "train")
                for cell, language in zip(cells[:2], languages, strict=False)
            )
            yield from (
                Labelled(cell, language, "school", "test") for cell, language in zip(cells[2:], languages, strict=True)
            )


def labelled_sentences(data: Path) -> list[Labelled]:
    """Return every sentence once, without those that occur in two languages (they have no right answer)."""
    first: dict[str, Labelled] = {}
    ambiguous: set[str] = set()
    for sentence in _all_sentences(data):
        key = canonical(normalise(sentence.text))
        if key and first.setdefault(key, sentence).language is not sentence.language:
            ambiguous.add(key)
    return [sentence for key, sentence in first.items() if key not in ambiguous]
