"""Methods without a paper: random patches, evenly spaced ones, and average pooling of the grid."""

import pytest
import torch

from tests.methods.synthetic import random_signals
from vlmprune.methods.base import Signals
from vlmprune.methods.baselines import Pool, Random, Uniform, evenly_spaced, pooled_grid


def drawn(seeds: list[int], k: int = 7) -> list[list[int]]:
    signals = Signals(grid=(6, 8), images=len(seeds), seeds=seeds)
    return Random(keep=k).select(signals, k).indices.tolist()


def test_an_image_is_drawn_alike_in_any_batch() -> None:
    together = drawn([11, 12, 11])
    assert together[0] == together[2] == drawn([11])[0]
    assert together[0] != together[1]


def test_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    drawn([11])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_every_patch_is_as_likely() -> None:
    counts = torch.zeros(48)
    for row in drawn(list(range(2000)), k=12):
        counts[row] += 1
    assert counts.min() > 420  # 500 expected, standard deviation 19
    assert counts.max() < 580


@pytest.mark.parametrize("grid", [(24, 24), (12, 12), (6, 8), (10, 3), (1, 7)])
def test_any_count_is_met_with_distinct_ascending_patches(grid: tuple[int, int]) -> None:
    n = grid[0] * grid[1]
    for k in range(n + 1):
        kept = evenly_spaced(*grid, k)
        assert len(kept) == k
        assert kept == sorted(set(kept))
        assert all(0 <= index < n for index in kept)


def test_evenly_spaced_patches_of_known_grids() -> None:
    assert evenly_spaced(4, 4, 4) == [5, 7, 13, 15]
    assert evenly_spaced(4, 4, 16) == list(range(16))
    assert evenly_spaced(3, 3, 1) == [4]


def test_rows_of_a_typical_budget() -> None:
    rows = [index // 24 for index in evenly_spaced(24, 24, 29)]
    assert sorted(set(rows)) == [2, 7, 12, 16, 21]
    assert {rows.count(row) for row in rows} == {5, 6}


def test_uniform_keeps_the_same_of_every_image() -> None:
    kept = Uniform(keep=7).select(Signals(grid=(6, 8), images=3), 7).indices
    assert kept.shape == (3, 7)
    assert kept.tolist() == [evenly_spaced(6, 8, 7)] * 3


@pytest.mark.parametrize(
    ("grid", "k", "cells"),
    [
        ((24, 24), 144, (12, 12)),
        ((24, 24), 64, (8, 8)),
        ((24, 24), 58, (7, 8)),
        ((24, 24), 29, (4, 7)),
        ((24, 24), 3, (1, 2)),  # not 1 x 3: a cell would be three times as high as wide
        ((24, 24), 1, (1, 1)),
        ((24, 24), 575, (23, 24)),
        ((10, 40), 4, (1, 4)),  # square cells, not a square grid of cells
        ((10, 40), 1, (1, 1)),  # nothing else fits
        ((1, 40), 3, (1, 3)),
        ((5, 5), 0, (0, 0)),
    ],
)
def test_cells_of_a_pooled_grid(grid: tuple[int, int], k: int, cells: tuple[int, int]) -> None:
    assert pooled_grid(*grid, k) == cells


def test_pooling_takes_means_of_whole_blocks() -> None:
    features = torch.arange(16.0).reshape(1, 16, 1)
    out = Pool(keep=4).select(Signals(grid=(4, 4), features=features), 4)
    assert out.features.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert out.indices.tolist() == [[5, 7, 13, 15]]


def test_pooling_to_one_is_the_mean_of_all() -> None:
    given = random_signals(images=2)
    out = Pool(keep=1).select(given, 1)
    torch.testing.assert_close(out.features[:, 0], given.features.mean(dim=1))


@pytest.mark.parametrize("k", [2, 7, 13, 29, 47])
def test_pooling_returns_the_count_of_its_cells(k: int) -> None:
    out = Pool(keep=k).select(random_signals(images=2, grid=(6, 8)), k)
    h, w = pooled_grid(6, 8, k)
    assert out.indices.shape == (2, h * w)
    assert out.features.shape == (2, h * w, 8)
    assert 0.7 * k < h * w <= k
    assert out.indices[0].tolist() == sorted(set(out.indices[0].tolist()))
