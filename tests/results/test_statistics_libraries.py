"""Our intervals, tests and corrections beside those of scipy and statsmodels, where these have the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from vlmprune.results.statistics import EXACT, clustered_interval, holm, paired_differences

GENERATOR = np.random.default_rng(5)
P_VALUES = GENERATOR.uniform(0, 0.2, 20).tolist()


@pytest.mark.parametrize("p_values", [P_VALUES, [0.01, 0.01, 0.5], [0.04], [1.0, 0.9]])
def test_holm(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def sign_flip(differences, **options):
    """scipy's permutation test of one sample whose signs are flipped."""
    zeros = np.zeros_like(differences)
    return stats.permutation_test(
        (differences, zeros), lambda a, b, axis: (a - b).sum(axis), permutation_type="samples", **options
    ).pvalue


def cluster_sums(a, b, per_image):
    return (a - b).reshape(-1, per_image).sum(1)


@pytest.mark.parametrize("per_image", [1, 3])
def test_exact_sign_flips(per_image):
    """All assignments of signs, of images with one question and with three."""
    images = 10
    a, b = GENERATOR.integers(0, 2, (2, images * per_image)).astype(float)
    names = np.repeat(np.arange(images).astype(str), per_image)
    sums = cluster_sums(a, b, per_image)
    assert 2 < np.count_nonzero(sums) <= EXACT
    (ours,) = paired_differences([a], [b], names)
    assert ours.p == pytest.approx(sign_flip(sums, n_resamples=np.inf))


def test_random_sign_flips():
    """40 images: both draw random signs, so that p agrees to the noise of 20,000 draws."""
    a, b = GENERATOR.random((2, 40, 4))
    a += 0.03
    (ours,) = paired_differences([a.ravel()], [b.ravel()], np.repeat(np.arange(40).astype(str), 4), flips=20_000)
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
