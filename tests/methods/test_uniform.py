"""Evenly spaced patches."""

import pytest

from vlmprune.methods.base import Signals
from vlmprune.methods.baselines import Uniform, evenly_spaced


@pytest.mark.parametrize("grid", [(24, 24), (12, 12), (6, 8), (10, 3), (1, 7)])
def test_any_count_is_met_with_distinct_ascending_patches(grid: tuple[int, int]) -> None:
    n = grid[0] * grid[1]
    for k in range(n + 1):
        kept = evenly_spaced(*grid, k)
        assert len(kept) == k
        assert kept == sorted(set(kept))
        assert all(0 <= index < n for index in kept)


def test_known_grids() -> None:
    assert evenly_spaced(4, 4, 4) == [5, 7, 13, 15]
    assert evenly_spaced(4, 4, 16) == list(range(16))
    assert evenly_spaced(3, 3, 1) == [4]


def test_rows_of_a_typical_budget() -> None:
    rows = [index // 24 for index in evenly_spaced(24, 24, 29)]
    assert sorted(set(rows)) == [2, 7, 12, 16, 21]
    assert {rows.count(row) for row in rows} == {5, 6}


def test_every_image_alike() -> None:
    kept = Uniform(keep=7).select(Signals(grid=(6, 8), images=3), 7).indices
    assert kept.shape == (3, 7)
    assert kept.tolist() == [evenly_spaced(6, 8, 7)] * 3
