"""Confidence intervals, paired tests, correction for many tests, and the Pareto front. numpy only.

Questions about one image are not independent, so the unit of every resampling here is the image (the *cluster*), with
all of its questions. Everything is seeded: the same predictions always give the same interval and the same p value.

In paired tests all pairs over the same questions share the resamples, so that 200 pairs take two matrix products and
not 200 bootstraps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Scores = np.ndarray | Sequence[np.ndarray] | Sequence[float] | Sequence[Sequence[float]]  # [R, Q], or [Q] of one row
RESAMPLES = 2000  # per interval
BLOCK_CELLS = 2_000_000  # resamples are drawn in blocks of about this many numbers: memory stays below 50 MB


def clustered_interval(
    scores: Sequence[float], clusters: Sequence[str], level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile-bootstrap interval of the mean score, drawing whole clusters with replacement.

    scores: one per question, from 0 to 1; clusters: the image of each. A resample's mean is that of its questions, so
    that an image with more questions weighs more, as in the score itself. For a single cluster, and where all scores
    are 0, or all are 1, the interval is that of `score_intervals`. Raise ValueError if there are no scores, or if
    `level` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level}: must lie between 0 and 1")
    sums, counts = sum_by_cluster(np.atleast_2d(np.asarray(scores, dtype=float)), clusters)
    ((low, high),) = score_intervals(sums, counts, level, resamples, seed)
    return float(low), float(high)


def clustered_intervals(scores: Scores, clusters: Sequence[str], level: float = 0.95) -> np.ndarray:
    """Return the intervals [R, 2] of the mean of each row of scores [R, Q], each as `clustered_interval` gives it."""
    return score_intervals(*sum_by_cluster(np.atleast_2d(np.asarray(scores, dtype=float)), clusters), level)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected by Holm's step-down method for several tests, in the order given.

    The i-th smallest of m (from 0) is multiplied by m - i, never below the one before it, at most 1.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Return for each (cost, score) point True if it is on the front: no other point costs at most as much and scores
    at least as well, one of the two strictly. Equal points are all on the front, or none is."""
    return [
        not any(
            other_cost <= cost and other_score >= score and (other_cost < cost or other_score > score)
            for other_cost, other_score in points
        )
        for cost, score in points
    ]


def sum_by_cluster(values: np.ndarray, clusters: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums [R, C] of values [R, Q] over each cluster's questions, and their counts [C]; clusters by name."""
    if values.shape[1] != len(clusters):
        raise ValueError(f"{values.shape[1]} scores but {len(clusters)} clusters")
    if not len(clusters):
        raise ValueError("no scores")
    names = np.asarray(clusters, dtype=str)
    order = np.argsort(names, kind="stable")
    _, starts, counts = np.unique(names[order], return_index=True, return_counts=True)
    return np.add.reduceat(values[:, order], starts, axis=1), counts.astype(float)


def bootstrap_intervals(
    sums: np.ndarray, counts: np.ndarray, level: float, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Return intervals [R, 2] of the means of R rows, drawing C clusters with replacement; sums [R, C], counts [C]."""
    generator = np.random.default_rng(seed)
    clusters = len(counts)
    means = []
    for size in block_sizes(resamples, clusters):
        drawn = generator.integers(0, clusters, size=(size, clusters))
        cells = (drawn + clusters * np.arange(size)[:, None]).ravel()
        times = np.bincount(cells, minlength=size * clusters).reshape(size, clusters).astype(float)  # each is drawn
        means.append(times @ sums.T / (times @ counts)[:, None])
    return np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2], axis=0).T


def score_intervals(
    sums: np.ndarray, counts: np.ndarray, level: float, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Return intervals [R, 2] of mean scores from 0 to 1: `bootstrap_intervals`, but at the edges Clopper-Pearson's.

    All resamples of a row of zeros, or of ones, are alike, and a bootstrap would call 0 of 70 right certain. There the
    interval is the exact one of the binomial distribution with one trial per cluster, all of them failures or all
    successes (Clopper and Pearson, Biometrika 1934): from 0 to 1 - tail^(1/C), tail being (1 - level) / 2, or from
    tail^(1/C) to 1. Questions about one image are not independent, so they count as one trial. A single cluster that is
    neither says nothing about others: the interval is 0 to 1.
    """
    bounds = bootstrap_intervals(sums, counts, level, resamples, seed)
    if len(counts) == 1:
        bounds[:] = 0, 1
    edge = ((1 - level) / 2) ** (1 / len(counts))
    bounds[(sums == 0).all(1)] = 0, 1 - edge
    bounds[(sums == counts).all(1)] = edge, 1
    return bounds


def block_sizes(resamples: int, clusters: int) -> Iterator[int]:
    """Yield sizes of blocks of resamples that take about BLOCK_CELLS numbers each, which bounds memory."""
    block = max(1, BLOCK_CELLS // clusters)
    for start in range(0, resamples, block):
        yield min(block, resamples - start)


EXACT = 13  # up to this many differing clusters, all sign assignments are counted: at most 8,192


@dataclass(frozen=True)
class Difference:
    """A paired difference. mean: of a - b over the questions; low, high: its interval; p: two-sided p value."""

    mean: float
    low: float
    high: float
    p: float


def paired_differences(
    a: Scores, b: Scores, clusters: Sequence[str], level: float = 0.95, flips: int = 10_000, seed: int = 0
) -> list[Difference]:
    """Return the mean of a - b, its interval and its p value for every pair of rows.

    a, b: scores [R, Q] of the same questions in the same order; clusters: the image of each question, Q names. The
    interval is the clustered bootstrap of the differences. The p value is a sign-flip permutation test: if the two runs
    are interchangeable, each image's summed difference is as likely to have the other sign. For up to 13 differing
    images all sign assignments are counted (exact), for more `flips` random ones and the observed one, so that p is
    never 0. Raise ValueError if the shapes differ.
    """
    ours, theirs = (np.atleast_2d(np.asarray(side, dtype=float)) for side in (a, b))
    if ours.shape != theirs.shape:
        raise ValueError(f"{ours.shape[1]} and {theirs.shape[1]} scores: the two must answer the same questions")
    differences = ours - theirs
    sums, counts = sum_by_cluster(differences, clusters)
    bounds = bootstrap_intervals(sums, counts, level, seed=seed)
    p_values = _sign_flip(sums, flips, seed)
    means = differences.mean(1)
    return [
        Difference(float(mean), float(low), float(high), float(p))
        for mean, (low, high), p in zip(means, bounds, p_values, strict=True)
    ]


def _sign_flip(sums: np.ndarray, flips: int, seed: int) -> np.ndarray:
    """Return the two-sided p values [R] of |sum| under random signs of the clusters' sums [R, C]."""
    observed = np.abs(sums.sum(1)) - 1e-9  # sums that differ by rounding must count as equal
    p_values = np.ones(len(sums))
    many = []
    for row, own in enumerate(sums):
        differing = own[own != 0]  # a sign does not change 0
        if len(differing) > EXACT:
            many.append(row)
        elif len(differing):
            bits = np.arange(2 ** len(differing))[:, None] >> np.arange(len(differing)) & 1
            p_values[row] = (np.abs((1 - 2 * bits) @ differing) >= observed[row]).mean()
    if many:
        extreme = np.ones(len(many))
        generator = np.random.default_rng(seed)
        for size in block_sizes(flips, sums.shape[1]):
            signs = 1.0 - 2.0 * generator.integers(0, 2, size=(size, sums.shape[1]), dtype=np.int8)
            extreme += (np.abs(signs @ sums[many].T) >= observed[many]).sum(0)
        p_values[many] = extreme / (flips + 1)
    return p_values
