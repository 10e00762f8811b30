"""Paired tests against exact distributions and a small simulation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from vlmprune.results.statistics import Difference, clustered_interval, clustered_intervals, paired_differences


def paired_difference(a: list[float], b: list[float], images: list[str], **options: Any) -> Difference:
    (difference,) = paired_differences(a, b, images, **options)
    return difference


def test_sign_flips_are_counted_exactly_for_few_images() -> None:
    """Differences by image 1, 2, 3: of eight signed sums only +6 and -6 are as extreme."""
    a, b = [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]
    difference = paired_difference(a, b, ["x", "y", "y", "z", "z", "z"])
    assert difference.mean == 1 and difference.p == 2 / 8
    assert (difference.low, difference.high) == (1.0, 1.0)


def test_sign_flips_by_brute_force() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.integers(0, 2, 40), generator.integers(0, 2, 40)
    images = [str(i // 4) for i in range(40)]
    sums = (a - b).reshape(10, 4).sum(1)
    signed = [abs(np.dot(signs, sums)) for signs in itertools.product((-1, 1), repeat=10)]
    expected = np.mean([value >= abs(sums.sum()) for value in signed])
    assert paired_difference(a.tolist(), b.tolist(), images).p == pytest.approx(expected)


def test_equal_methods_do_not_differ() -> None:
    difference = paired_difference([1, 0, 1], [1, 0, 1], ["a", "b", "c"])
    assert (difference.mean, difference.low, difference.high, difference.p) == (0, 0, 0, 1)


def test_p_is_uniform_where_nothing_differs_and_small_where_it_does() -> None:
    generator = np.random.default_rng(5)
    images = [str(i // 5) for i in range(150)]
    p_values = []
    for _ in range(200):
        a, b = generator.random((2, 150)) < 0.6
        p_values.append(paired_difference(a.tolist(), b.tolist(), images, flips=400).p)
    assert 0.005 <= np.mean(np.array(p_values) <= 0.05) <= 0.10
    a, b = generator.random(150) < 0.9, generator.random(150) < 0.5
    difference = paired_difference(a.tolist(), b.tolist(), images)
    assert 0 < difference.p < 0.001 and 0 < difference.low < difference.mean < difference.high


def test_many_pairs_at_once_are_each_as_alone() -> None:
    generator = np.random.default_rng(2)
    a, b = generator.random((2, 3, 90)) < [[[0.8], [0.6], [0.5]], [[0.5], [0.6], [0.6]]]
    b[2] = a[2]
    b[2, :5] ^= True  # few images differ: counted exactly
    images = [str(i // 3) for i in range(90)]
    together = paired_differences(a.astype(float), b.astype(float), images)
    for row, difference in enumerate(together):
        alone = paired_difference(a[row].astype(float).tolist(), b[row].astype(float).tolist(), images)
        assert difference.mean == pytest.approx(alone.mean) and difference.p == pytest.approx(alone.p)
        assert (difference.low, difference.high) == pytest.approx((alone.low, alone.high))
    assert 0 < together[2].p <= 1 and together[2].p * 4 % 1 == 0  # two images differ: four assignments of signs


def test_intervals_are_those_of_the_single_bootstrap() -> None:
    """Both draw the same clusters: what a run records and what is computed here agree."""
    generator = np.random.default_rng(4)
    scores, images = generator.random(70).round(2), [str(i // 4) for i in range(70)]
    ((low, high),) = clustered_intervals(scores, images)
    assert (low, high) == pytest.approx(clustered_interval(scores.tolist(), images))


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="same questions"):
        paired_difference([1], [1, 0], ["a", "b"])
    with pytest.raises(ValueError, match="2 scores but 1 clusters"):
        clustered_intervals([1, 0], ["a"])
    with pytest.raises(ValueError, match="no scores"):
        clustered_intervals([[]], [])
