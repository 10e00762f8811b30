"""How sure a score is, correction for many tests, and the Pareto front. numpy only; paired.py has the tests.

Questions about one image are not independent, so the unit of every resampling here is the image (the *cluster*), with
all of its questions. Everything is seeded: the same predictions always give the same interval and the same p value.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BLOCK_CELLS = 2_000_000  # resamples are drawn in blocks of about this many numbers: memory stays below 50 MB


def clustered_interval(
    scores: Sequence[float], clusters: Sequence[str], level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile-bootstrap interval of the mean score, drawing whole clusters with replacement.

    scores: one per question; clusters: the image of each. A resample's mean is that of its questions, so that an
    image with more questions weighs more, as in the score itself. One cluster alone says nothing about others: the
    interval is then that one mean. Raises ValueError where there is nothing to average.
    """
    sums, counts = _by_cluster(scores, clusters)
    if not 0 < level < 1:
        raise ValueError(f"level {level}: must lie between 0 and 1")
    means = _bootstrap_means(sums, counts, resamples, seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction for looking at several p values at once, in the order given.

    The i-th smallest of m (from 0) is multiplied by m - i, never below the one before it, at most 1.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which (cost, score) points nothing beats: no other costs at most as much and scores at least as well, one of
    the two strictly. Equal points share their place on the front."""
    return [
        not any(
            other_cost <= cost and other_score >= score and (other_cost < cost or other_score > score)
            for other_cost, other_score in points
        )
        for cost, score in points
    ]


def _by_cluster(scores: Sequence[float], clusters: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum of scores and number of questions of every cluster, both [C], in a fixed order of clusters."""
    if len(scores) != len(clusters):
        raise ValueError(f"{len(scores)} scores but {len(clusters)} clusters")
    if not len(scores):
        raise ValueError("no scores")
    names, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = np.bincount(index, weights=np.asarray(scores, dtype=float), minlength=len(names))
    return sums, np.bincount(index, minlength=len(names)).astype(float)


def _bootstrap_means(sums: np.ndarray, counts: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means [resamples] over C clusters drawn with replacement; sums, counts: [C]."""
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK_CELLS // len(sums))
    means = []
    for start in range(0, resamples, block):
        drawn = generator.integers(0, len(sums), size=(min(block, resamples - start), len(sums)))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    return np.concatenate(means)
