"""Train the language detector: `python -m evals.train_language DATA_DIR OUTPUT.npz`.

One multinomial logistic regression per script over the features of `server.text.detection`. Needs scikit-learn.
"""

import argparse
import random
import string
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix, diags
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from evals.corpora import Labelled, labelled_sentences
from server.text.detection import (
    ARABIC_CLASSES,
    BUCKET_BITS,
    LATIN_CLASSES,
    Detector,
    ScriptModel,
    features,
    normalise,
    prevailing_script,
    save,
    words_in,
)
from server.text.fold import canonical
from server.text.language import Language

INVERSE_REGULARISATION = 20.0
COPY_WEIGHT = 0.3
"""Weight of a copy without hamzas and accents, against 1 for the sentence as written."""

MEANINGLESS = 600
"""Strings of random letters that are taught to be no language of ours."""


def train(sentences: Sequence[Labelled]) -> Detector:
    """Fit both scripts' models."""
    latin = [*sentences, *_meaningless()]
    return Detector(_train_script(sentences, "arabic", ARABIC_CLASSES), _train_script(latin, "latin", LATIN_CLASSES))


def _meaningless() -> Iterator[Labelled]:
    """Yield one to four words of random letters; half of them without vowels, as what is typed without looking."""
    source = random.Random(MEANINGLESS)
    consonants = sorted(set(string.ascii_lowercase) - set("aeiouy"))
    for number in range(MEANINGLESS):
        letters = string.ascii_lowercase if number % 2 else consonants
        words = ("".join(source.choices(letters, k=source.randint(3, 8))) for _ in range(source.randint(1, 4)))
        yield Labelled(" ".join(words), Language.OTHER, "random letters", "train")


def _train_script(sentences: Sequence[Labelled], script: str, classes: tuple[Language, ...]) -> ScriptModel:
    texts: list[str] = []
    labels: list[int] = []
    weights: list[float] = []
    for sentence in sentences:
        written = normalise(sentence.text)
        if prevailing_script(written) != script or sentence.language not in classes:
            continue
        plain = words_in(script, normalise(canonical(sentence.text)))
        for text, weight in {plain: COPY_WEIGHT, words_in(script, written): 1.0}.items():
            texts.append(text)
            labels.append(classes.index(sentence.language))
            weights.append(weight)
    counts = _matrix(texts)
    document_frequency = np.asarray((counts > 0).sum(axis=0)).ravel()
    idf = 1.0 + np.log((1 + len(texts)) / (1 + document_frequency))
    balance = np.bincount(labels, weights, minlength=len(classes))
    sample_weights = np.array(weights) * (sum(weights) / len(classes) / balance)[labels]
    model = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=1000)
    model.fit(normalize(counts @ diags(idf)), labels, sample_weight=sample_weights)
    return ScriptModel(
        classes, idf.astype(np.float32), model.coef_.astype(np.float32), model.intercept_.astype(np.float32)
    )


def _matrix(texts: Sequence[str]) -> csr_matrix:
    rows = [features(text) for text in texts]
    starts = np.concatenate([[0], np.cumsum([len(buckets) for buckets, _ in rows])])
    values = np.concatenate([values for _, values in rows])
    return csr_matrix((values, np.concatenate([buckets for buckets, _ in rows]), starts), (len(rows), 1 << BUCKET_BITS))


def main() -> None:
    """Train on every sentence that is not reserved for tests and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    sentences = [sentence for sentence in labelled_sentences(arguments.data) if sentence.use != "test"]
    save(train(sentences), arguments.output)
    print(f"{len(sentences)} sentences -> {arguments.output} ({arguments.output.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
