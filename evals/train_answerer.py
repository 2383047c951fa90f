"""Fit the weights of the local answerer's sentences and print them: `python -m evals.train_answerer DATA_DIR`."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from evals.answers import EVERY, sources_of
from evals.corpora import pool
from evals.ranking import Pipeline
from evals.train_idf import POOLS
from server.models.local.candidates import SENTENCE_WEIGHTS, candidates
from server.text.fold import canonical

PENALTY = 0.01

Example = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""The features of a question's sentences, and which of them hold a known answer."""


def examples(data: Path, name: str) -> list[Example]:
    """Return the questions of a set whose answer some, but not every, sentence holds."""
    questions = pool(data, name)
    pipeline = Pipeline(questions.paragraphs)
    found: list[Example] = []
    for asked, answers in list(zip(questions.questions, questions.answers, strict=True))[1::EVERY]:
        for group in candidates(asked, sources_of(pipeline, asked)):
            right = np.array(
                [any(canonical(one) in canonical(piece.text) for one in answers) for piece in group.pieces]
            )
            if right.any() and not right.all():
                found.append((group.rows, right))
    return found


def fit(training: Sequence[Example]) -> NDArray[np.float64]:
    """Return the weights that make right sentences most likely under a softmax, with a small L2 penalty."""
    spread = np.concatenate([rows for rows, _ in training]).std(axis=0) + 1e-9

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = 0.0, np.zeros_like(weights)
        for raw, right in training:
            rows = raw / spread
            scores = rows @ weights
            likelihoods = np.exp(scores - scores.max())
            likelihoods /= likelihoods.sum()
            share = likelihoods[right].sum() + 1e-12
            value -= math.log(share)
            gradient -= (np.where(right, likelihoods, 0.0) / share - likelihoods) @ rows
        count = len(training)
        return value / count + PENALTY * float(weights @ weights), gradient / count + 2 * PENALTY * weights

    return np.asarray(minimize(loss, np.zeros(len(SENTENCE_WEIGHTS)), jac=True, method="L-BFGS-B").x / spread)


def main() -> None:
    """Print each set's share of right first sentences with the others' weights, then the weights of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    arguments = parser.parse_args()
    found = {name: examples(arguments.data, name) for name in POOLS}
    for name in POOLS:
        weights = fit([example for other in POOLS if other != name for example in found[other]])
        right = [bool(held[int((rows @ weights).argmax())]) for rows, held in found[name]]
        print(f"{name}: right first sentence {sum(right) / len(right):.3f} with weights of the other sets")
    print("SENTENCE_WEIGHTS: Final = {")
    for feature, weight in zip(SENTENCE_WEIGHTS, fit([each for name in POOLS for each in found[name]]), strict=True):
        print(f'    "{feature}": {weight:.2f},')
    print("}")


if __name__ == "__main__":
    main()
