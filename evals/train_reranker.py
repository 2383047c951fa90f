"""Fit the weights of the local reranker and print them: `python -m evals.train_reranker DATA_DIR`."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from evals.corpora import Pool, pool
from evals.ranking import CANDIDATES, fused_order
from evals.train_idf import POOLS
from server.models.local.evidence import FEATURES, evidence, passage, question

PENALTY = 0.01


@dataclass(frozen=True, slots=True)
class Example:
    """One question's candidates: their evidence, shape (candidates, features), and the place of the right one."""

    rows: NDArray[np.float64]
    right: int


def examples(questions: Pool) -> list[Example]:
    """Return the questions whose paragraph is among the fused candidates."""
    found: list[Example] = []
    for asked, order, gold in zip(questions.questions, fused_order(questions), questions.gold, strict=True):
        candidates = order[:CANDIDATES]
        if gold in candidates:
            rows = evidence(question(asked), [passage(questions.paragraphs[index]) for index in candidates])
            found.append(Example(rows, candidates.index(gold)))
    return found


def fit(training: Sequence[Example]) -> NDArray[np.float64]:
    """Return the weights that make the right candidates most likely under a softmax, with a small L2 penalty."""
    spread = np.concatenate([example.rows for example in training]).std(axis=0) + 1e-9

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = 0.0, np.zeros_like(weights)
        for example in training:
            rows = example.rows / spread
            scores = rows @ weights
            likelihoods = np.exp(scores - scores.max())
            likelihoods /= likelihoods.sum()
            value -= math.log(likelihoods[example.right] + 1e-12)
            gradient -= rows[example.right] - likelihoods @ rows
        count = len(training)
        return value / count + PENALTY * float(weights @ weights), gradient / count + 2 * PENALTY * weights

    return np.asarray(minimize(loss, np.zeros(len(FEATURES)), jac=True, method="L-BFGS-B").x / spread)


def reciprocal_rank(weights: NDArray[np.float64], tested: Sequence[Example], questions: int) -> float:
    """Return MRR@10 over all questions, those without their paragraph among the candidates included."""
    total = 0.0
    for example in tested:
        scores = example.rows @ weights
        rank = 1 + int((scores > scores[example.right]).sum())
        total += 1 / rank if rank <= 10 else 0.0
    return total / questions


def main() -> None:
    """Print the weights of all sets, and each set's MRR@10 with weights fitted on the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    arguments = parser.parse_args()
    pools = {name: pool(arguments.data, name) for name in POOLS}
    found = {name: examples(questions) for name, questions in pools.items()}
    for name, questions in pools.items():
        others = [example for other in POOLS if other != name for example in found[other]]
        rank = reciprocal_rank(fit(others), found[name], len(questions.questions))
        print(f"{name}: MRR@10 {rank:.4f} with weights of the other sets")
    weights = fit([example for name in POOLS for example in found[name]])
    for name, questions in pools.items():
        rank = reciprocal_rank(weights, found[name], len(questions.questions))
        print(f"{name}: MRR@10 {rank:.4f} with the weights of all")
    print("WEIGHTS: Final = {")
    for feature, weight in zip(FEATURES, weights, strict=True):
        print(f'    "{feature}": {weight:.2f},')
    print("}")


if __name__ == "__main__":
    main()
