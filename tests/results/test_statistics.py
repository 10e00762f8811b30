"""Intervals, paired tests, correction and the front: by hand, beside scipy and statsmodels, and in simulations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from vlmprune.results.statistics import (
    EXACT,
    Difference,
    clustered_interval,
    clustered_intervals,
    holm,
    paired_differences,
    pareto_front,
)

GENERATOR = np.random.default_rng(5)
P_VALUES = GENERATOR.uniform(0, 0.2, 20).tolist()


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


def test_one_image_says_nothing_about_others() -> None:
    assert clustered_interval([0, 1, 1, 1], ["a"] * 4) == (0, 1)
    assert clustered_interval([1, 1], ["a"] * 2) == pytest.approx((0.025, 1))  # all right, in one trial


def test_constant_scores_inside_have_no_width() -> None:
    assert clustered_interval([0.5] * 3, ["a", "b", "c"]) == (0.5, 0.5)


@pytest.mark.parametrize(("right", "level"), [(0, 0.95), (1, 0.95), (0, 0.8)])
def test_none_or_all_right_has_the_exact_binomial_interval_over_images(right: int, level: float) -> None:
    """70 images, of which ten have a second question, which is no further trial."""
    images = [str(number % 70) for number in range(80)]
    expected = stats.binomtest(70 * right, 70).proportion_ci(level, method="exact")
    assert clustered_interval([right] * 80, images, level) == pytest.approx(tuple(expected))
    assert 0.01 < expected.high - expected.low < 0.06


def test_only_the_rows_at_the_edges_change() -> None:
    images = ["a", "a", "b", "c"]
    none, all_, some = clustered_intervals([[0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 1, 0]], images)
    assert tuple(none) == clustered_interval([0] * 4, images) == (0.0, pytest.approx(1 - 0.025 ** (1 / 3)))
    assert tuple(all_) == clustered_interval([1] * 4, images) == (pytest.approx(0.025 ** (1 / 3)), 1.0)
    assert tuple(some) == clustered_interval([1, 0, 1, 0], images) == (0.0, 1.0)
    certain = paired_difference([1] * 4, [1] * 4, images)
    assert (certain.low, certain.high) == (0, 0)  # a difference that is always 0 is no score


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="no scores"):
        clustered_interval([], [])
    with pytest.raises(ValueError, match="2 scores but 1 clusters"):
        clustered_interval([1, 0], ["a"])
    with pytest.raises(ValueError, match="level 95"):
        clustered_interval([1], ["a"], level=95)
    with pytest.raises(ValueError, match="same questions"):
        paired_difference([1], [1, 0], ["a", "b"])
    with pytest.raises(ValueError, match="2 scores but 1 clusters"):
        clustered_intervals([1, 0], ["a"])
    with pytest.raises(ValueError, match="no scores"):
        clustered_intervals([[]], [])


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
    assert holm([]) == []


def test_pareto_front_by_hand() -> None:
    points = [(1.0, 0.5), (2.0, 0.7), (2.0, 0.6), (3.0, 0.7), (4.0, 0.9), (1.0, 0.5)]
    assert pareto_front(points) == [True, True, False, False, True, True]
    assert pareto_front([]) == []


def paired_difference(a: list[float], b: list[float], images: list[str], **options: Any) -> Difference:
    (difference,) = paired_differences(a, b, images, **options)
    return difference


def test_sign_flips_are_counted_exactly_for_few_images() -> None:
    """Differences by image 1, 2, 3: of eight signed sums only +6 and -6 are as extreme."""
    a, b = [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]
    difference = paired_difference(a, b, ["x", "y", "y", "z", "z", "z"])
    assert difference.mean == 1 and difference.p == 2 / 8
    assert (difference.low, difference.high) == (1.0, 1.0)


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


@pytest.mark.parametrize("p_values", [P_VALUES, [0.01, 0.01, 0.5], [0.04], [1.0, 0.9], [0.7, 0.6]])
def test_holm(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def sign_flip(differences, **options):
    """scipy's permutation test of one sample whose signs are flipped."""
    zeros = np.zeros_like(differences)
    return stats.permutation_test(
        (differences, zeros), lambda a, b, axis: (a - b).sum(axis), permutation_type="samples", **options
    ).pvalue


@pytest.mark.parametrize("per_image", [1, 3])
def test_exact_sign_flips(per_image):
    """All assignments of signs, of images with one question and with three."""
    images = 10
    a, b = GENERATOR.integers(0, 2, (2, images * per_image)).astype(float)
    names = np.repeat(np.arange(images).astype(str), per_image)
    sums = (a - b).reshape(images, per_image).sum(1)
    assert 2 < np.count_nonzero(sums) <= EXACT
    assert paired_difference(a, b, names).p == pytest.approx(sign_flip(sums, n_resamples=np.inf))


def test_random_sign_flips():
    """40 images: both draw random signs, so that p agrees to the noise of 20,000 draws."""
    a, b = GENERATOR.random((2, 40, 4))
    a += 0.03
    ours = paired_difference(a.ravel(), b.ravel(), np.repeat(np.arange(40).astype(str), 4), flips=20_000)
    theirs = sign_flip((a - b).sum(1), n_resamples=20_000, rng=np.random.default_rng(0))
    assert 0.01 < theirs < 0.9
    assert ours.p == pytest.approx(theirs, abs=5 * np.sqrt(theirs * (1 - theirs) / 10_000))


def test_percentile_bootstrap_of_clusters():
    """Images with different numbers of questions: the mean of a resample is a ratio of sums."""
    counts = GENERATOR.integers(1, 6, 60)
    scores = [GENERATOR.random(count) for count in counts]
    sums = np.array([each.sum() for each in scores])
    names = np.repeat(np.arange(60).astype(str), counts)
    ours = clustered_interval(np.concatenate(scores), names, resamples=20_000)
    theirs = stats.bootstrap(
        (sums, counts),
        lambda total, number, axis: total.sum(axis) / number.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert ours == pytest.approx(tuple(theirs), abs=0.02 * (theirs.high - theirs.low) + 0.001)
