"""Count letter trigrams for the page check: `python -m evals.train_trigrams DATA_DIR OUTPUT.npz`."""

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evals.corpora import labelled_sentences, pool
from server.text.detection import normalise, prevailing_script
from server.text.language import Language
from server.text.plausibility import ALPHABETS, LEVELS_PER_BIT, trigrams

PAIR_WEIGHT = 2.0
LETTER_WEIGHT = 5.0
"""How many observations the shorter context counts for (interpolation with additive smoothing)."""


def train(texts: Iterable[str], script: str) -> NDArray[np.uint8]:
    """Return -log2 P(letter | two letters before) for every trigram, as bytes of 1/16 bit."""
    size = len(ALPHABETS[script]) + 1
    counts = np.zeros(size**3)
    for text in texts:
        np.add.at(counts, trigrams(text, script), 1.0)
    triples = counts.reshape(size, size, size)
    pairs = triples.sum(axis=0)
    letters = (pairs.sum(axis=0) + 1) / (pairs.sum() + size)
    given_one = (pairs + LETTER_WEIGHT * letters) / (pairs.sum(axis=1, keepdims=True) + LETTER_WEIGHT)
    given_two = (triples + PAIR_WEIGHT * given_one) / (triples.sum(axis=2, keepdims=True) + PAIR_WEIGHT)
    return np.asarray(np.clip(np.rint(-np.log2(given_two) * LEVELS_PER_BIT), 0, 255).ravel(), dtype=np.uint8)


def texts_by_script(data: Path) -> dict[str, list[str]]:
    """Return French, Arabic and Hassaniya texts; Hassaniya in Latin letters is left out, its spelling is free."""
    found: dict[str, list[str]] = {"arabic": [], "latin": []}
    for name, script in (("xquad_ar", "arabic"), ("arcd_ar", "arabic"), ("piaf_fr", "latin")):
        found[script] += pool(data, name).paragraphs
    for sentence in labelled_sentences(data):
        if sentence.language is Language.OTHER or "paragraphs" in sentence.corpus:
            continue
        arabic = prevailing_script(normalise(sentence.text)) == "arabic"
        if arabic or sentence.language is Language.FRENCH:
            found["arabic" if arabic else "latin"].append(sentence.text)
    return found


def main() -> None:
    """Write the tables of both scripts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    tables = {script: train(texts, script) for script, texts in texts_by_script(arguments.data).items()}
    with arguments.output.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **tables)
    print(f"{arguments.output}: {arguments.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
