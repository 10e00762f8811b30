"""Intervals, correction and the front against cases worked by hand and a small simulation."""

from __future__ import annotations

import numpy as np
import pytest

from vlmprune.results.statistics import clustered_interval, holm, pareto_front


def test_interval_of_two_equal_clusters_is_the_exact_distribution() -> None:
    """Two images scoring 0 and 1: a resample means 0, 1/2 or 1 with chances 1/4, 1/2, 1/4."""
    assert clustered_interval([0, 0, 1, 1], ["a", "a", "b", "b"]) == (0.0, 1.0)
    assert clustered_interval([0, 0, 1, 1], ["a", "a", "b", "b"], level=0.4) == (0.5, 0.5)


def test_interval_weighs_images_by_their_questions() -> None:
    """Image a: 3 questions right, b: 1 wrong. Means: aa 1, ab 3/4, bb 0."""
    assert clustered_interval([1, 1, 1, 0], ["a", "a", "a", "b"], level=0.4) == (0.75, 0.75)


def test_interval_is_deterministic_and_ignores_order() -> None:
    scores, images = [1, 0, 1, 1, 0, 1], ["a", "b", "c", "a", "b", "c"]
    expected = clustered_interval(scores, images)
    assert clustered_interval(scores, images) == expected
    order = [5, 3, 1, 0, 2, 4]
    assert clustered_interval([scores[i] for i in order], [images[i] for i in order]) == expected


def test_one_cluster_and_constant_scores_have_no_width() -> None:
    assert clustered_interval([0, 1, 1, 1], ["a"] * 4) == (0.75, 0.75)
    assert clustered_interval([1, 1, 1], ["a", "b", "c"]) == (1.0, 1.0)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="no scores"):
        clustered_interval([], [])
    with pytest.raises(ValueError, match="2 scores but 1 clusters"):
        clustered_interval([1, 0], ["a"])
    with pytest.raises(ValueError, match="level 95"):
        clustered_interval([1], ["a"], level=95)


def test_coverage_with_dependent_questions() -> None:
    """Questions of an image share its difficulty. The clustered interval covers; one over questions would not."""
    generator = np.random.default_rng(3)
    clustered = naive = 0
    trials = 200
    for _ in range(trials):
        difficulty = np.repeat(generator.beta(1, 1, 60), 8)  # the true mean is 1/2
        scores = (generator.random(480) < difficulty).astype(float).tolist()
        low, high = clustered_interval(scores, [str(i // 8) for i in range(480)], resamples=400)
        clustered += low <= 0.5 <= high
        low, high = clustered_interval(scores, [str(i) for i in range(480)], resamples=400)
        naive += low <= 0.5 <= high
    assert 0.90 <= clustered / trials <= 0.99
    assert naive / trials < 0.85


def test_holm_by_hand() -> None:
    """Sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04, made monotone: .02 .03 .06 .06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1.0, 1.0] and holm([0.2]) == [0.2] and holm([]) == []


def test_pareto_front_by_hand() -> None:
    points = [(1.0, 0.5), (2.0, 0.7), (2.0, 0.6), (3.0, 0.7), (4.0, 0.9), (1.0, 0.5)]
    assert pareto_front(points) == [True, True, False, False, True, True]
    assert pareto_front([]) == []
