"""PyramidDrop's schedule, and its ranking against its authors' code; the drop itself is the engine's."""

import pytest
import torch

from tests.methods.golden import Vectors
from tests.methods.synthetic import decoder_signals
from vlmprune.methods.base import top_k
from vlmprune.methods.pyramiddrop import PyramidDrop

VECTORS = Vectors("pyramiddrop")


def schedule(method: PyramidDrop, depth: int, n: int) -> list[tuple[int, int]]:
    return [(stage.layer, stage.kept) for stage in method.stages(depth, n)]


@pytest.mark.parametrize("case", ["lam0.5", "tiny"])
def test_keeps_what_the_authors_keep(case: str) -> None:
    """Each stage ranks what the one before left; the recorded scores are those of its own visual tokens."""
    start, n, length = VECTORS[f"{case}.img"].tolist()
    method = PyramidDrop()
    stages = method.stages(4, n)
    assert [stage.layer for stage in stages] == VECTORS[f"{case}.layers"].tolist()
    before, after = torch.arange(start), torch.arange(start + n, length)
    left = torch.arange(start, start + n)
    for index, stage in enumerate(stages):
        score = VECTORS[f"{case}.stage{index}.score"]
        row = torch.cat([torch.ones(start), score, torch.ones(len(after))])
        rows = row.expand(1, 2, 1, -1)  # two heads that agree, one query
        score = method.score(decoder_signals(rows))[0, start : start + len(left)]
        left = left[top_k(score, stage.kept)]
        assert torch.equal(torch.cat([before, left, after]), VECTORS[f"{case}.stage{index}.keep_orig"])


def test_published_schedule() -> None:
    assert schedule(PyramidDrop(), 32, 576) == [(8, 288), (16, 144), (24, 72)]
    assert schedule(PyramidDrop(), 4, 9) == [(1, 4), (2, 2), (3, 1)]  # fractions of the 9, rounded down
    assert not PyramidDrop().keeps_all(576)


def test_lists_as_a_configuration_gives_them() -> None:
    method = PyramidDrop(layer_list=[4, 20], image_token_ratio_list=[0.6, 0.2])
    assert schedule(method, 32, 10) == [(4, 6), (20, 2)]


def test_same_relative_depth() -> None:
    assert [layer for layer, _ in schedule(PyramidDrop(), 24, 576)] == [6, 12, 18]
    assert [layer for layer, _ in schedule(PyramidDrop(), 40, 576)] == [10, 20, 30]
    assert [layer for layer, _ in schedule(PyramidDrop(published_depth=40), 40, 576)] == [8, 16, 24]


def test_the_published_schedule_is_ratio_0875() -> None:
    for n in (64, 144, 256, 576, 2880):
        assert schedule(PyramidDrop(ratio=0.875), 32, n) == schedule(PyramidDrop(), 32, n)


def test_ratio_and_keep_are_what_is_left_in_the_end() -> None:
    assert schedule(PyramidDrop(ratio=0.5), 32, 576) == [(8, 457), (16, 363), (24, 288)]
    assert schedule(PyramidDrop(keep=72), 32, 576) == [(8, 288), (16, 144), (24, 72)]
    assert [kept for _, kept in schedule(PyramidDrop(ratio=1), 32, 576)] == [0, 0, 0]
    assert [kept for _, kept in schedule(PyramidDrop(ratio=0.95), 32, 0)] == [0, 0, 0]
    assert PyramidDrop(ratio=0).keeps_all(576)
    # `keep` is of the prompt's tokens, and a prompt may hold several images: the schedule decides.
    assert not PyramidDrop(keep=576).keeps_all(576)
    assert schedule(PyramidDrop(keep=576), 32, 576) == [(8, 576), (16, 576), (24, 576)]


def test_never_more_than_before() -> None:
    for n in range(1, 60):
        for k in range(1, n + 1):
            kept = [kept for _, kept in schedule(PyramidDrop(keep=k), 32, n)]
            assert [n, *kept] == sorted([n, *kept], reverse=True)
            assert kept[-1] == k


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_refuses_a_decoder_that_is_too_shallow(depth: int) -> None:
    with pytest.raises(ValueError, match="the smallest depth that works: 4"):
        PyramidDrop().stages(depth, 576)


def test_all_deeper_ones_work() -> None:
    for depth in range(4, 100):
        layers = [layer for layer, _ in schedule(PyramidDrop(), depth, 576)]
        assert 0 < layers[0] < layers[1] < layers[2] < depth


@pytest.mark.parametrize("layers", [(8, 8, 16), (16, 8, 24), (0, 8, 16), (8, 16, 32)])
def test_refuses_other_orders_of_layers(layers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="allowed: one or more ascending layers of 1 to 31"):
        PyramidDrop(layer_list=layers)


def test_refuses_a_fraction_too_few() -> None:
    with pytest.raises(ValueError, match="one fraction for each of the 3 layers"):
        PyramidDrop(image_token_ratio_list=(0.5, 0.25))
