"""Language detection on held-out sentences: per class, per corpus, per length; and on a corpus never trained on."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from evals.corpora import Labelled, labelled_sentences
from evals.report import Row
from evals.train_language import train
from server.text.detection import Detector

HELD_OUT = 0.3
LENGTHS = ((1, 2), (3, 4), (5, 7), (8, 12), (13, 999))
CORPORA_LEFT_OUT = ("dah", "rim", "tatoeba", "exams")


def _accuracy(detector: Detector, sentences: Iterable[Labelled]) -> dict[str, list[bool]]:
    """Return right and wrong answers under every name a sentence is reported by."""
    found: dict[str, list[bool]] = defaultdict(list)
    for sentence in sentences:
        right = detector.detect(sentence.text).language is sentence.language
        words = len(sentence.text.split())
        length = next(f"{low}-{high} words" for low, high in LENGTHS if low <= words <= high)
        names = ("all", f"class {sentence.language}", f"{sentence.corpus}, {sentence.language}")
        for name in (*names, f"{length}, {sentence.language}"):
            found[name].append(right)
    return found


def _held_out(sentences: list[Labelled]) -> Iterator[Row]:
    training = [sentence for sentence in sentences if sentence.use != "test" and not sentence.held_out(HELD_OUT)]
    tested = [sentence for sentence in sentences if sentence.held_out(HELD_OUT)]
    for name, answers in sorted(_accuracy(train(training), tested).items()):
        if len(answers) >= 20:
            limit = 0.97 if name == "all" or name.startswith("class") else None
            yield Row(f"language, held out: {name}", sum(answers) / len(answers), limit, note=f"of {len(answers)}")


def _left_out(sentences: list[Labelled]) -> Iterator[Row]:
    for corpus in CORPORA_LEFT_OUT:
        others = [
            each for each in sentences if each.corpus != corpus and not (corpus == "exams" and "exam" in each.corpus)
        ]
        detector = train([each for each in others if each.use != "test"])
        for name, answers in sorted(_accuracy(detector, (each for each in sentences if each.corpus == corpus)).items()):
            if name.startswith("class"):
                yield Row(
                    f"language, {corpus} never seen: {name}", sum(answers) / len(answers), note=f"of {len(answers)}"
                )


def report(data: Path) -> list[Row]:
    """Train on 70 % and measure on the rest; then leave out one corpus at a time, which is what a new writer is."""
    sentences = labelled_sentences(data)
    return [*_held_out(sentences), *_left_out(sentences)]
