"""ToMe against its authors' code, and the schedule that all merging inside the encoder shares."""

from decimal import Decimal

import pytest
import torch
from torch import Tensor

from tests.methods.golden import MERGED, Vectors
from vlmprune.methods.base import Tower
from vlmprune.methods.encoder_method import VisionMethod
from vlmprune.methods.merging import Matching, counts_at_fraction
from vlmprune.methods.pitome import PiToMe
from vlmprune.methods.tome import ToMe

CLIP_L = Tower(depth=24, feature_layer=22, grid=(24, 24), has_cls=True)
SMALL = Tower(depth=5, feature_layer=3, grid=(6, 6), has_cls=True)
WITHOUT_CLS = Tower(depth=5, feature_layer=3, grid=(6, 6), has_cls=False)


def source(matching: Matching) -> Tensor:
    """The recorded form of a matching: int64 [B, T-r, T], 1 where an input is part of an output."""
    return torch.nn.functional.one_hot(matching.target(), matching.stay.shape[1]).mT


@pytest.mark.parametrize(("name", "r"), [("tome_r_small", 5), ("tome_r_capped", 4), ("tome_r_577_r16", 16)])
def test_pairs_what_the_authors_pair(name: str, r: int) -> None:
    vectors = Vectors(name)
    matching = ToMe().match(vectors["metric"], r, 0, CLIP_L)
    assert torch.equal(source(matching), vectors["source"])
    assert torch.equal(source(matching).sum(dim=2, keepdim=True), vectors["size"].long())
    if "x" in vectors:  # sizes are 1 at first, so that their weighted mean is the plain one
        torch.testing.assert_close(matching.mean(vectors["x"]), vectors["out_wavg"], **MERGED)


def test_plain_mean() -> None:
    vectors = Vectors("tome_small_cls")
    matching = ToMe().match(vectors["metric"], 5, 0, CLIP_L)
    assert torch.equal(source(matching), vectors["source"])
    torch.testing.assert_close(matching.mean(vectors["x"]), vectors["out_mean"], **MERGED)


@pytest.mark.parametrize(("method", "name"), [(ToMe, "tome"), (PiToMe, "pitome")])
def test_all_layers_that_llava_reads(method: type[VisionMethod], name: str) -> None:
    vectors = Vectors("clip_llava_24layers_0.9")
    hidden, merging = vectors["x"], method(layer_ratio=0.9)
    lengths = [hidden.shape[1]]
    for layer, r in enumerate(merging.merge_counts(CLIP_L, 576)):
        hidden = merging.match(hidden, r, layer, CLIP_L).mean(hidden)
        lengths.append(hidden.shape[1])
    assert lengths == vectors[f"{name}_lengths"].tolist()[:24]  # the 24th layer is not read
    torch.testing.assert_close(hidden[:, 1:], vectors[f"{name}_llava_tokens"], **MERGED)


@pytest.mark.parametrize(
    ("layer_ratio", "tome", "pitome"),
    [(0.85, 16, 17), (0.875, 29, 30), (0.9, 53, 54), (0.925, 100, 101), (0.95, 183, 183), (0.975, 329, 330)],
)
def test_published_counts(layer_ratio: float, tome: int, pitome: int) -> None:
    assert 576 - sum(ToMe(layer_ratio=layer_ratio).merge_counts(CLIP_L, 576)) == tome
    assert 576 - sum(PiToMe(layer_ratio=layer_ratio).merge_counts(CLIP_L, 576)) == pitome


@pytest.mark.parametrize("method", [ToMe, PiToMe])
def test_the_count_is_exact(method: type[VisionMethod]) -> None:
    for k in range(1, 577):
        assert 576 - sum(method(keep=k).merge_counts(CLIP_L, 576)) == k
    assert 576 - sum(method(ratio=0.95).merge_counts(CLIP_L, 576)) == 29


@pytest.mark.parametrize("tower", [SMALL, WITHOUT_CLS])
@pytest.mark.parametrize("method", [ToMe, PiToMe])
def test_every_layer_keeps_the_same_fraction(method: type[VisionMethod], tower: Tower) -> None:
    merging = method(keep=12)
    length, fractions = 36, []
    for r in merging.merge_counts(tower, 36):
        fractions.append((length - r) / length)
        length -= r
    assert length == 12
    assert max(fractions) - min(fractions) < 1 / 12


@pytest.mark.parametrize("tower", [SMALL, WITHOUT_CLS])
@pytest.mark.parametrize("method", [ToMe, PiToMe])
def test_refuses_what_halving_cannot_reach(method: type[VisionMethod], tower: Tower) -> None:
    assert sum(method(keep=3).merge_counts(tower, 36)) == 33
    with pytest.raises(ValueError, match="2 of 36 visual tokens to be kept; allowed: 3 or more"):
        method(keep=2).merge_counts(tower, 36)


def test_never_more_than_half() -> None:
    """Meta's cap: 10 tokens, one of them [CLS], have 4 pairs."""
    assert counts_at_fraction(9, Decimal(0), (1,)) == (4,)


@pytest.mark.parametrize("method", [ToMe, PiToMe])
def test_nothing_and_everything(method: type[VisionMethod]) -> None:
    assert method(ratio=0).keeps_all(36)
    assert method().keeps_all(36)
    assert method(layer_ratio=1).keeps_all(36)
    assert not method(layer_ratio=0.9).keeps_all(36)
    assert method(ratio=1).merge_counts(SMALL, 36) == (0, 0, 0, 0)


@pytest.mark.parametrize("settings", [{"layer_ratio": 0.4}, {"layer_ratio": 1.1}])
def test_refuses_layer_ratios(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"allowed: 0.5 to 1"):
        ToMe(**settings)


def test_refuses_two_amounts() -> None:
    with pytest.raises(ValueError, match="only one"):
        ToMe(layer_ratio=0.9, ratio=0.5)


@pytest.mark.parametrize("layer", [0, 3])
@pytest.mark.parametrize("tower", [SMALL, WITHOUT_CLS])
@pytest.mark.parametrize("method", [ToMe, PiToMe])
class TestMatching:
    """Properties of every matching, in plain ToMe and in PiToMe layers, with and without [CLS]."""

    @pytest.mark.parametrize("r", [1, 7, 18])
    def test_every_token_is_in_one_output(self, method: type[VisionMethod], tower: Tower, layer: int, r: int) -> None:
        first = int(tower.has_cls)
        hidden = torch.randn(3, 36 + first, 8, generator=torch.Generator().manual_seed(r))
        untouched = hidden.clone()
        matching = method().match(hidden, r, layer, tower)
        assert matching.gone.shape == matching.into.shape == (3, r)
        everything = torch.cat([matching.stay, matching.gone], dim=1).sort(dim=1).values
        assert torch.equal(everything, torch.arange(36 + first).expand(3, -1))
        sizes = source(matching).sum(dim=2)
        assert sizes.sum(dim=1).tolist() == [36 + first] * 3
        out = matching.mean(hidden)
        if tower.has_cls:
            assert matching.stay[:, 0].tolist() == [0, 0, 0]
            assert sizes[:, 0].tolist() == [1, 1, 1]
            assert torch.equal(out[:, 0], hidden[:, 0])
        expected = source(matching).float() @ hidden / sizes[..., None]
        torch.testing.assert_close(out, expected)
        assert torch.equal(hidden, untouched)

    def test_an_image_does_not_depend_on_its_batch(self, method: type[VisionMethod], tower: Tower, layer: int) -> None:
        hidden = torch.randn(3, 36 + int(tower.has_cls), 8, generator=torch.Generator().manual_seed(0))
        together = method().match(hidden, 9, layer, tower)
        for image in range(3):
            alone = method().match(hidden[image : image + 1], 9, layer, tower)
            assert torch.equal(together.target()[image], alone.target()[0])

    def test_equal_tokens_are_no_special_case(self, method: type[VisionMethod], tower: Tower, layer: int) -> None:
        hidden = torch.ones(1, 36 + int(tower.has_cls), 8)
        matching = method().match(hidden, 18, layer, tower)
        torch.testing.assert_close(matching.mean(hidden), hidden[:, 18:])

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, method: type[VisionMethod], tower: Tower, layer: int, dtype: torch.dtype) -> None:
        hidden = torch.randn(2, 36 + int(tower.has_cls), 8, generator=torch.Generator().manual_seed(1)).to(dtype)
        half, single = (method().match(x, 9, layer, tower) for x in (hidden, hidden.float()))
        assert torch.equal(half.target(), single.target())
        assert torch.equal(half.mean(hidden), single.mean(hidden.float()).to(dtype))
