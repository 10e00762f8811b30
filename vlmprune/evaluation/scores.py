"""Scores of prediction lines: metrics, the main score with its interval, scores by category. Needs no model."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

from vlmprune.benchmarks.base import Benchmark
from vlmprune.results.statistics import clustered_interval

RESAMPLES = 200  # for a metric that is no mean: each resample computes it over the whole set


def summarise_scores(rows: list[dict[str, Any]], benchmark: Benchmark) -> dict[str, Any]:
    """Return the parts of result.json's `answers` that scoring sets; score, interval: None until all are judged."""
    metrics = benchmark.summarise(rows)
    score = benchmark.main_score(metrics) if metrics else None
    return {
        "metric": benchmark.metric.name,
        "score": score,
        "interval95": None if score is None else interval(rows, benchmark),
        "metrics": metrics,
        "samples": len(rows),
        "images": len({row["image_id"] for row in rows}),
        "by_category": by_category(rows),
    }


def interval(rows: list[dict[str, Any]], benchmark: Benchmark) -> list[float] | None:
    """Return the 95 % bootstrap interval of the main score: images (with all their questions) drawn with replacement.

    Return None for a metric that cannot be computed on a resample, such as CIDEr, whose weights need the whole set.
    """
    units = benchmark.units(rows)
    if units is not None:
        return list(clustered_interval(*units))
    if not benchmark.resampled:
        return None
    clusters: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        clusters[row["image_id"]].append(row)
    names, draw = sorted(clusters), random.Random(0)
    scores = []
    for _ in range(RESAMPLES):
        drawn = [
            row | {"image_id": f"{name}#{number}"}  # an image that is drawn twice counts as two
            for number, name in enumerate(draw.choices(names, k=len(names)))
            for row in clusters[name]
        ]
        score = benchmark.main_score(benchmark.summarise(drawn))
        assert score is not None
        scores.append(score)
    scores.sort()
    return [scores[round(0.025 * (RESAMPLES - 1))], scores[round(0.975 * (RESAMPLES - 1))]]


def by_category(rows: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return mean score and number of samples of each category; the score is None if any sample has none."""
    scores = defaultdict(list)
    for row in rows:
        scores[row["category"]].append(row["score"])
    return {
        name: {"score": None if None in values else sum(values) / len(values), "samples": len(values)}
        for name, values in sorted(scores.items())
    }
