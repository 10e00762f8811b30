"""PiToMe against its authors' code. What it shares with ToMe is in test_tome.py."""

import dataclasses

import pytest
import torch

from tests.methods.golden import MERGED, Vectors
from tests.methods.test_tome import CLIP_L, SMALL, source
from vlmprune.methods.pitome import PiToMe
from vlmprune.methods.tome import ToMe


@pytest.mark.parametrize(("name", "r", "margin"), [("pitome_small", 4, 0.5), ("pitome_small_cls", 5, 0.3)])
def test_merges_what_the_authors_merge(name: str, r: int, margin: float) -> None:
    vectors = Vectors(name)
    tower = dataclasses.replace(CLIP_L, has_cls=name.endswith("cls"))
    matching = PiToMe(start_layer=0, margin=margin).match(vectors["metric"], r, 0, tower)
    assert torch.equal(source(matching), vectors["source"])
    torch.testing.assert_close(matching.mean(vectors["x"]), vectors["out_mean"], **MERGED)


def test_the_margin_falls_over_the_layers() -> None:
    """Layer 12 of 24 has half the margin of layer 0."""
    x = torch.randn(1, 33, 4, generator=torch.Generator().manual_seed(0))
    upper = PiToMe(start_layer=0, margin=0.8).match(x, 5, 12, CLIP_L)
    assert torch.equal(upper.stay, PiToMe(start_layer=0, margin=0.4).match(x, 5, 0, CLIP_L).stay)
    assert not torch.equal(upper.stay, PiToMe(start_layer=0, margin=0.8).match(x, 5, 0, CLIP_L).stay)


@pytest.mark.parametrize(("tower", "first"), [(CLIP_L, 13), (SMALL, 3)])
def test_lower_layers_are_tome(tower, first: int) -> None:
    x = torch.randn(1, 37, 8, generator=torch.Generator().manual_seed(0))
    for layer in range(tower.feature_layer + 1):
        same = torch.equal(PiToMe().match(x, 5, layer, tower).stay, ToMe().match(x, 5, layer, tower).stay)
        assert same == (layer < first)


def test_lonely_tokens_are_protected() -> None:
    """Four groups of near-equal tokens and four tokens of their own: pairs come from the groups only."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.eye(8)
    groups = directions[:4].repeat_interleave(4, dim=0) + 0.01 * torch.randn(16, 8, generator=generator)
    x = torch.cat([directions[4:], groups])[None]
    tower = dataclasses.replace(CLIP_L, has_cls=False)
    matching = PiToMe(start_layer=0).match(x, 6, 0, tower)
    assert set(matching.gone[0].tolist()) <= set(range(4, 20))
    assert set(range(4)) <= set(matching.stay[0, :8].tolist())
