"""DivPrune against its authors' code, and where theirs selects a token twice."""

import pytest
import torch

from tests.methods.golden import Vectors
from vlmprune.methods.base import Signals
from vlmprune.methods.divprune import DivPrune

VECTORS, SPLICE = Vectors("divprune_576"), Vectors("divprune_splice")


def select(x: torch.Tensor, k: int) -> torch.Tensor:
    return DivPrune(keep=k).select(Signals(grid=(1, x.shape[1]), images=len(x), projected=x), k).indices


@pytest.mark.parametrize("ratio", VECTORS.budgets("order_"))
def test_keeps_what_the_authors_keep(ratio: str) -> None:
    order = VECTORS[f"order_{ratio}"]
    assert torch.equal(select(VECTORS["x"][None], len(order))[0], order.sort().values)


def test_keeps_what_the_authors_splice_into_the_prompt() -> None:
    order = SPLICE["selection_order"]
    assert torch.equal(select(SPLICE["image_features"], len(order))[0], order.sort().values)


def test_greedy_by_hand() -> None:
    """Unit vectors at 0, 10, 90, 180 and 200 degrees: 90 is the loneliest; 200, 0, 180 and 10 follow."""
    angles = torch.deg2rad(torch.tensor([0.0, 10, 90, 180, 200]))
    x = torch.stack([angles.cos(), angles.sin()], dim=1)[None]
    order = [2, 4, 0, 3, 1]
    for k in range(1, 6):
        assert select(x, k)[0].tolist() == sorted(order[:k])


def test_length_does_not_matter() -> None:
    x = torch.randn(1, 30, 6, generator=torch.Generator().manual_seed(0))
    scale = torch.rand(1, 30, 1, generator=torch.Generator().manual_seed(1)) + 0.5
    assert torch.equal(select(x, 9), select(x * scale, 9))


def test_never_selects_a_token_twice() -> None:
    """18 tokens, 6 different ones: the authors' code then returns the same index again and again."""
    x = torch.eye(6).repeat(3, 1)[None]
    for k in (6, 7, 17):
        kept = select(x, k)[0].tolist()
        assert len(set(kept)) == k
        assert len({i % 6 for i in kept}) == 6
    assert select(x, 6)[0].tolist() == [0, 1, 2, 3, 4, 5]
