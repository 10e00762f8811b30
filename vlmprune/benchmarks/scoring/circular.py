"""CircularEval (MMBench, Liu et al., ECCV 2024): a question is right if all rotations of its options are."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from vlmprune.benchmarks.scoring.metric import Metric

METRIC = Metric("accuracy")
ROTATION = 1_000_000  # MMBench's index of rotation r of question q is q + r * ROTATION


def question(row: dict[str, Any]) -> int:
    """Return the question that a row is a rotation of. Reads extra["index"], MMBench's own number."""
    return question_of(row["extra"]["index"])


def question_of(index: Any) -> int:
    """Return the question that MMBench's own number `index` is a rotation of."""
    return int(index) % ROTATION


def summarise(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return accuracy: questions right under all their rotations in `rows`; vanilla_accuracy: rows right; questions."""
    scores: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        scores[question(row)].append(row["score"])
    return {
        "accuracy": sum(min(values) for values in scores.values()) / len(scores),
        "vanilla_accuracy": sum(row["score"] for row in rows) / len(rows),
        "questions": float(len(scores)),
    }
