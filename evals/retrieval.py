"""Retrieval: dense, full text, fused and reranked, each question against all paragraphs of its set."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.corpora import Pool, pool
from evals.ranking import CANDIDATES, Pipeline, indexes
from evals.report import Row

LIMITS = {"xquad_ar": 0.93, "arcd_ar": 0.78, "piaf_fr": 0.76}
"""MRR@10 to reach after reranking (`design.md` §6)."""

RECALLS = (1, 5, 10, 30)


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over questions; one relevant paragraph each."""

    reciprocal_rank: float
    discounted_gain: float
    recall: dict[int, float]

    def rows(self, name: str, limit: float | None = None) -> list[Row]:
        """Return the report lines."""
        recalls = " ".join(f"R@{depth} {self.recall[depth]:.3f}" for depth in RECALLS)
        return [
            Row(f"{name}: MRR@10", self.reciprocal_rank, limit, note=recalls),
            Row(f"{name}: nDCG@10", self.discounted_gain),
        ]


def quality(orders: Sequence[Sequence[int]], gold: Sequence[int]) -> Quality:
    """Measure ranked lists of paragraph indexes."""
    ranks = [
        list(order).index(right) + 1 if right in order else math.inf for order, right in zip(orders, gold, strict=True)
    ]
    count = len(ranks)
    return Quality(
        sum(1 / rank for rank in ranks if rank <= 10) / count,
        sum(1 / math.log2(rank + 1) for rank in ranks if rank <= 10) / count,
        {depth: sum(rank <= depth for rank in ranks) / count for depth in RECALLS},
    )


def stages(questions: Pool) -> dict[str, Quality]:
    """Run every question through the pipeline and measure the order after each stage."""
    pipeline = Pipeline(questions.paragraphs)
    dense = [indexes(pipeline.dense.search(asked)) for asked in questions.questions]
    text = [indexes(pipeline.text.search(asked)) for asked in questions.questions]
    fused = [pipeline.fused(asked)[:CANDIDATES] for asked in questions.questions]
    reranked = [pipeline.ranked(asked) for asked in questions.questions]
    named = {"dense": dense, "full text": text, "fused": fused, "reranked": reranked}
    return {name: quality(orders, questions.gold) for name, orders in named.items()}


def report(data: Path) -> list[Row]:
    """Measure the three sets; the reranker's gain over the dense order is also given as a share of the possible."""
    rows: list[Row] = []
    for name, limit in LIMITS.items():
        found = stages(pool(data, name))
        better_single = max(found["dense"].reciprocal_rank, found["full text"].reciprocal_rank)
        for stage, measured in found.items():
            floor = {"fused": better_single, "reranked": limit}.get(stage)
            rows += measured.rows(f"{name} {stage}", floor)
        before, after = found["dense"].reciprocal_rank, found["reranked"].reciprocal_rank
        possible = found["fused"].recall[CANDIDATES] - before
        rows.append(Row(f"{name}: reranked over dense, relative gain", after / before - 1))
        rows.append(Row(f"{name}: reranked over dense, share of the possible gain", (after - before) / possible))
    return rows
