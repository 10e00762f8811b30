"""CDPruner against its authors' code and against the determinant that it maximises, and where theirs fails."""

import pytest
import torch
from torch import Tensor

from tests.methods.golden import Vectors
from tests.methods.synthetic import random_signals
from vlmprune.methods.base import Signals
from vlmprune.methods.cdpruner import CDPruner, map_dpp
from vlmprune.methods.tensor_ops import unit

VECTORS = Vectors("cdpruner_small")


def select(x: Tensor, similarity: Tensor, k: int) -> list[int]:
    signals = Signals(grid=(1, x.shape[0]), images=1, projected=x[None], text_relevance=similarity[None])
    return CDPruner(keep=k).select(signals, k).indices[0].tolist()


def recorded_similarity() -> Tensor:
    """[B, N] mean over text segments of the cosines in CLIP space."""
    return (unit(VECTORS["image_embeds"]) @ unit(VECTORS["text_embeds"]).T).mean(dim=2)


@pytest.mark.parametrize("k", VECTORS.budgets("mask_"))
def test_keeps_what_the_authors_keep(k: str) -> None:
    kept = select(VECTORS["feats"][0], recorded_similarity()[0], int(k))
    assert kept == VECTORS[f"mask_{k}"][0].nonzero().flatten().tolist()


@pytest.mark.parametrize("k", VECTORS.budgets("greedy_order_float64_"))
def test_order_under_the_published_kernel(k: str) -> None:
    """With the division by max - min, which select leaves out: it changes no choice."""
    negated = -recorded_similarity().double()
    r = (negated - negated.min() + 1e-6) / (negated.max() - negated.min())
    x = unit(VECTORS["feats"].double())
    order = map_dpp(r.unsqueeze(2) * (x @ x.mT) * r.unsqueeze(1), int(k))
    assert torch.equal(order, VECTORS[f"greedy_order_float64_{k}"])


@pytest.mark.parametrize("seed", range(3))
def test_every_step_has_the_largest_determinant(seed: int) -> None:
    """The definition of greedy MAP, by brute force in float64, for a batch of two."""
    x = torch.randn(2, 12, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    kernel = x @ x.mT
    for image, order in enumerate(map_dpp(kernel, 9).tolist()):
        for step, pick in enumerate(order):
            volume = {}
            for token in set(range(12)) - set(order[:step]):
                chosen = [*order[:step], token]
                volume[token] = kernel[image][chosen][:, chosen].logdet()
            assert pick == max(volume, key=volume.__getitem__)


def test_relevance_is_the_negated_cosine() -> None:
    """As published: of three orthogonal tokens, the one *least* like the question comes first."""
    similarity = torch.tensor([0.3, 0.1, 0.2])
    assert select(torch.eye(3), similarity, 1) == [1]
    assert select(torch.eye(3), similarity, 2) == [1, 2]


def test_equally_relevant_patches_leave_diversity() -> None:
    """The authors' normalisation is 0 / 0 there."""
    x = torch.randn(30, 40, generator=torch.Generator().manual_seed(0))
    expected = map_dpp((unit(x) @ unit(x).T)[None], 9)[0].sort().values.tolist()
    assert select(x, torch.full((30,), 0.25), 9) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_duplicates_come_after_all_different_tokens(dtype: torch.dtype) -> None:
    """36 tokens, 19 different ones, where the authors' recurrence divides by zero and keeps 19 of 24."""
    generator = torch.Generator().manual_seed(0)
    different, similarity = torch.randn(19, 48, generator=generator), torch.randn(19, generator=generator) / 10
    copies = torch.arange(36) % 19
    x, s = different[copies].to(dtype), similarity[copies].to(dtype)
    for k in (19, 20, 24, 35):
        kept = select(x, s, k)
        assert len(set(kept)) == k
        assert {int(copies[token]) for token in kept} == set(range(19))
    # Once nothing is new, the order is that of relevance.
    twice = set(select(x, s, 24)) - set(select(x, s, 19))
    assert sorted(twice) == sorted((s[19:].argsort()[:5] + 19).tolist())


def test_more_tokens_than_dimensions() -> None:
    """After 4 tokens of 4 dimensions no token adds volume, up to rounding."""
    x = torch.randn(1, 40, 4, generator=torch.Generator().manual_seed(0))
    order = map_dpp(unit(x) @ unit(x).mT, 40)[0].tolist()
    assert sorted(order) == list(range(40))
    assert torch.linalg.matrix_rank(x[0, order[:4]]) == 4


def test_tokens_of_length_0_come_last() -> None:
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    x[[2, 5]] = 0
    assert select(x, torch.linspace(0, 0.1, 8), 6) == [0, 1, 3, 4, 6, 7]
    assert select(x, torch.linspace(0, 0.1, 8), 7) == [0, 1, 2, 3, 4, 6, 7]


def test_tiles_are_normalised_apart() -> None:
    """A shift of one image's cosines changes neither image."""
    given = random_signals(images=2)
    before = CDPruner(keep=9).select(given, 9).indices
    given.text_relevance[1] += 0.5
    assert torch.equal(CDPruner(keep=9).select(given, 9).indices, before)
