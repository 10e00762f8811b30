"""Accuracy with the same weight for every category, whatever its size: MVBench's 20 tasks, MMStar's six skills."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from vlmprune.benchmarks.scoring.metric import Metric

METRIC = Metric("accuracy")


def summarise(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return accuracy: mean of the categories' mean scores; question_accuracy: mean over all rows."""
    scores: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        scores[row["category"]].append(row["score"])
    return {
        "accuracy": sum(sum(values) / len(values) for values in scores.values()) / len(scores),
        "question_accuracy": sum(row["score"] for row in rows) / len(rows),
    }
