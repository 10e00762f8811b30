"""Average pooling of the grid."""

import pytest
import torch

from tests.methods.synthetic import random_signals
from vlmprune.methods.base import Signals
from vlmprune.methods.baselines import Pool, pooled_grid


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
def test_cells(grid: tuple[int, int], k: int, cells: tuple[int, int]) -> None:
    assert pooled_grid(*grid, k) == cells


def test_means_of_whole_blocks() -> None:
    features = torch.arange(16.0).reshape(1, 16, 1)
    out = Pool(keep=4).select(Signals(grid=(4, 4), features=features), 4)
    assert out.features.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert out.indices.tolist() == [[5, 7, 13, 15]]


def test_the_mean_of_all() -> None:
    given = random_signals(images=2)
    out = Pool(keep=1).select(given, 1)
    torch.testing.assert_close(out.features[:, 0], given.features.mean(dim=1))


@pytest.mark.parametrize("k", [2, 7, 13, 29, 47])
def test_returns_the_count_of_its_cells(k: int) -> None:
    out = Pool(keep=k).select(random_signals(images=2, grid=(6, 8)), k)
    h, w = pooled_grid(6, 8, k)
    assert out.indices.shape == (2, h * w)
    assert out.features.shape == (2, h * w, 8)
    assert 0.7 * k < h * w <= k
    assert out.indices[0].tolist() == sorted(set(out.indices[0].tolist()))
