"""VisionZip against its authors' code."""

import pytest
import torch
from torch import Tensor

from tests.methods.golden import MERGED, Vectors
from tests.methods.synthetic import random_signals
from vlmprune.methods.base import Signals, Tower
from vlmprune.methods.visionzip import VisionZip

LARGE, SMALL = Vectors("visionzip_577"), Vectors("visionzip_small")
PUBLISHED = [(64, (54, 10)), (128, (108, 20)), (192, (162, 30)), (32, (27, 5))]


def signals(vectors: Vectors, grid: tuple[int, int]) -> Signals:
    hidden = vectors["hidden"]
    return Signals(
        grid=grid,
        images=len(hidden),
        cls_attention=vectors["cls_attn"][None, ..., 1:],
        keys=vectors["metric"][None, :, None],  # recorded as the mean over heads: one head
        features=hidden[:, 1:],
        cls_feature=hidden[:, 0],
    )


def dominant_patches(indices: Tensor) -> Tensor:
    """The recorded [B, D] with [CLS] as 0 -> patches [B, D-1], ascending."""
    return indices.sort(dim=1).values[:, 1:] - 1


@pytest.mark.parametrize(("dominant", "contextual"), [(54, 10), (108, 20), (162, 30), (191, 30)])
def test_merges_what_the_authors_merge(dominant: int, contextual: int) -> None:
    out = VisionZip(contextual=contextual).select(signals(LARGE, (24, 24)), dominant + contextual)
    torch.testing.assert_close(out.features, LARGE[f"out_{dominant}_{contextual}"], **MERGED)
    expected = dominant_patches(LARGE[f"idx_{dominant}_{contextual}"])
    assert torch.equal(out.indices[:, 1:dominant], expected)


def test_small_batch() -> None:
    out = VisionZip(contextual=4).select(signals(SMALL, (6, 6)), 13)
    torch.testing.assert_close(out.features, SMALL["out"], **MERGED)
    assert torch.equal(out.indices[:, 1:9], dominant_patches(SMALL["keep_idx_unsorted"]))


@pytest.mark.parametrize(("k", "split"), [*PUBLISHED, (1, (1, 0)), (2, (1, 1)), (3, (2, 1)), (29, (24, 5))])
def test_budgets(k: int, split: tuple[int, int]) -> None:
    assert VisionZip().split(k) == split


def test_refuses_more_contextual_tokens_than_fit() -> None:
    tower = Tower(24, 22, (24, 24), True)
    with pytest.raises(ValueError, match="allowed: 0 to 28"):
        VisionZip(keep=29, contextual=29).check(tower, 32)
    VisionZip(keep=29, contextual=28).check(tower, 32)


def test_a_tile_with_little_room_keeps_fewer_contextual_tokens() -> None:
    assert VisionZip(contextual=10).split(29) == (19, 10)
    assert VisionZip(contextual=10).split(4) == (1, 3)


def test_slots() -> None:
    """Patches keep their own, contextual tokens their targets', [CLS] the first free one; all different."""
    given = random_signals(images=3, grid=(6, 8))
    out = VisionZip(contextual=3).select(given, 12)
    for slots, features, embeddings in zip(out.indices, out.features, given.features, strict=True):
        assert len(set(slots.tolist())) == 12
        first, dominant, contextual = slots[0], slots[1:9], slots[9:]
        assert torch.equal(features[1:9], embeddings[dominant])
        assert contextual.tolist() == sorted(contextual.tolist())
        assert set(range(first)) <= set(slots.tolist())
    assert torch.equal(out.features[:, 0], given.cls_feature)


def test_no_contextual_tokens() -> None:
    given = random_signals(images=2)
    out = VisionZip(contextual=0).select(given, 5)
    assert out.features.shape[1] == 5
    alone = VisionZip().select(given, 1)
    assert torch.equal(alone.features[:, 0], given.cls_feature)
