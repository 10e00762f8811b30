"""Paired tests of runs on the same questions, for many pairs at once. numpy only.

As in statistics.py the unit of every resampling is the image with all of its questions. All pairs over the same
questions share the resamples, so that 200 pairs take two matrix products and not 200 bootstraps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlmprune.report.statistics import Scores, blocks, bootstrap_intervals, by_cluster

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
    sums, counts = by_cluster(differences, clusters)
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
        for size in blocks(flips, sums.shape[1]):
            signs = 1.0 - 2.0 * generator.integers(0, 2, size=(size, sums.shape[1]), dtype=np.int8)
            extreme += (np.abs(signs @ sums[many].T) >= observed[many]).sum(0)
        p_values[many] = extreme / (flips + 1)
    return p_values
