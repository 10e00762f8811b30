"""Random pruning."""

import torch

from vlmprune.methods.base import Signals
from vlmprune.methods.baselines import Random


def kept(seeds: list[int], k: int = 7, **fields: int) -> list[list[int]]:
    signals = Signals(grid=(6, 8), images=len(seeds), seeds=seeds)
    return Random(keep=k, **fields).select(signals, k).indices.tolist()


def test_an_image_is_drawn_alike_in_any_batch() -> None:
    together = kept([11, 12, 11])
    assert together[0] == together[2] == kept([11])[0]
    assert together[0] != together[1]


def test_seed() -> None:
    assert kept([11], seed=1) == kept([11], seed=1)
    assert kept([11], seed=1) != kept([11], seed=2)


def test_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    kept([11])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_every_patch_is_as_likely() -> None:
    counts = torch.zeros(48)
    for row in kept(list(range(2000)), k=12):
        counts[row] += 1
    assert counts.min() > 420  # 500 expected, standard deviation 19
    assert counts.max() < 580
