"""VisPruner against its authors' code, and where theirs fails."""

import pytest
import torch
from torch import Tensor

from tests.methods.golden import Vectors
from tests.methods.synthetic import random_signals
from vlmprune.methods.base import Signals
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.tensor_ops import unit
from vlmprune.methods.vispruner import VisPruner, drop_duplicates

VECTORS = Vectors("vispruner")
GRIDS = {"b1_h16_n576_c64": (24, 24), "b1_h2_n16_c4": (4, 4)}
EXACT = [key.removesuffix("/keep") for key in VECTORS.budgets("robust_") if key.endswith("/keep")]
RUN = [(case, suffix) for case in GRIDS for suffix in VECTORS.budgets(f"{case}/keep_")]
FAILED = [(case, suffix) for case in GRIDS for suffix in VECTORS.budgets(f"{case}/raises_")]
LARGEST = 48  # remaining tokens of which every small number of diverse ones is tried


def parameters(suffix: str) -> tuple[int, float]:
    """T128_r0.5 -> (128, 0.5)."""
    k, ratio = suffix.split("_r")
    return int(k.removeprefix("T")), float(ratio)


def signals(case: str, grid: tuple[int, int], dtype: torch.dtype = torch.float32) -> Signals:
    rows, features = VECTORS[f"{case}/cls_rows"].to(dtype), VECTORS[f"{case}/feats"].to(dtype)
    return Signals(grid=grid, images=len(rows), cls_attention=rows[None, ..., 1:], features=features)


def test_there_are_vectors() -> None:
    assert (len(EXACT), len(RUN), len(FAILED)) == (7, 17, 7)


@pytest.mark.parametrize("case", EXACT)
def test_keeps_what_the_authors_keep(case: str) -> None:
    k, ratio = parameters(case)
    kept = VisPruner(important_ratio=ratio).select(signals(f"robust_{case}", (24, 24)), k)
    assert torch.equal(kept.indices, VECTORS[f"robust_{case}/keep"])


@pytest.mark.parametrize(("case", "suffix"), RUN)
def test_keeps_what_the_authors_keep_in_double_precision(case: str, suffix: str) -> None:
    """Every budget, near ties or not: in float64 there are none that rounding decides."""
    k, ratio = parameters(suffix)
    kept = VisPruner(important_ratio=ratio).select(signals(case, GRIDS[case], torch.float64), k)
    assert torch.equal(kept.indices, VECTORS[f"{case}/keep64_{suffix}"])


@pytest.mark.parametrize(("case", "suffix"), RUN)
def test_single_precision_where_no_near_tie_decides(case: str, suffix: str) -> None:
    k, ratio = parameters(suffix)
    kept = VisPruner(important_ratio=ratio).select(signals(case, GRIDS[case]), k).indices[0].tolist()
    if VECTORS[f"{case}/robust_{suffix}"].item():
        assert kept == VECTORS[f"{case}/keep_{suffix}"][0].tolist()
    check(kept, signals(case, GRIDS[case]), k, ratio)


@pytest.mark.parametrize(("case", "suffix"), FAILED)
def test_budgets_at_which_the_authors_code_fails(case: str, suffix: str) -> None:
    """An odd number of remaining tokens, or fewer than 8 diverse ones."""
    k, ratio = parameters(suffix)
    given = signals(case, GRIDS[case])
    check(VisPruner(important_ratio=ratio).select(given, k).indices[0].tolist(), given, k, ratio)


def check(kept: list[int], given: Signals, k: int, ratio: float) -> None:
    """Count, order and important tokens are right, at any budget."""
    assert len(kept) == k
    assert kept == sorted(set(kept))
    important = int(k * ratio)
    assert set(ClsAttention().select(given, important).indices[0].tolist()) <= set(kept)


def test_one_round_by_hand() -> None:
    """A = tokens 4, 2, 0 and B = 3, 1 of five: 2 is closest to a B token (3), 0 next, so 2 goes."""
    similarity = torch.zeros(1, 5, 5)
    for a, b, value in [(4, 3, 0.1), (4, 1, 0.2), (2, 3, 0.9), (2, 1, 0.0), (0, 3, 0.3), (0, 1, 0.5)]:
        similarity[0, a, b] = similarity[0, b, a] = value
    order = torch.tensor([[4, 3, 2, 1, 0]])
    assert drop_duplicates(order, similarity, 4).tolist() == [[0, 4, 3, 1]]
    # Three more to drop than A holds: all of A goes, then 3 (A) of the pair 3, 1.
    assert drop_duplicates(order, similarity, 1).tolist() == [[1]]


def test_duplicates_go_first() -> None:
    given = random_signals(images=1, grid=(4, 4))
    given.features[0, 8:] = given.features[0, :8]  # every token has exactly one copy
    ranked = torch.tensor([[i + 8 * copy for i in range(8) for copy in (0, 1)]])  # one copy in A, one in B
    x = unit(given.features)
    left = drop_duplicates(ranked, x @ x.mT, 8)[0] % 8
    assert sorted(left.tolist()) == list(range(8))


@pytest.mark.parametrize("ratio", [-0.1, 1.1])
def test_refuses_a_share_outside_0_to_1(ratio: float) -> None:
    with pytest.raises(ValueError, match="allowed: 0 to 1"):
        VisPruner(important_ratio=ratio)


def authors(rest: Tensor, similarity: Tensor, count: int) -> list[int] | None:
    """Tokens that their rounds leave of `rest` [1, R]; None where they fail.

    Theirs, restated: rest[:, 0::2][arange(1)[:, None].expand(-1, R // 2 - r), order[:, r:]] is what a round leaves of
    A. torch reads an expansion to -1 as "as it is", broadcasts one row over two, and one over none; else it fails.
    """
    while count > 0 and (dropped := min(8, rest.shape[1] - count)) > 0:
        a, b = rest[:, 0::2], rest[:, 1::2]
        order = similarity[0][a[0]][:, b[0]].amax(dim=1).argsort(descending=True)[None, dropped:]
        try:
            row = torch.arange(1).unsqueeze(1).expand(-1, rest.shape[1] // 2 - dropped)
            rest = torch.cat([a[row, order], b], dim=1)
        except (RuntimeError, IndexError):
            return None
    return rest[0].tolist()


def rounds() -> dict[tuple[int, int], tuple[list[int] | None, list[int]]]:
    """(remaining, diverse) -> what they keep and what we keep."""
    found = {}
    for remaining in range(2, LARGEST + 1):
        generator = torch.Generator().manual_seed(remaining)
        x = unit(torch.randn(1, remaining, 8, generator=generator).double())
        tokens = torch.arange(remaining)[None]
        for diverse in range(1, remaining):
            ours = drop_duplicates(tokens, x @ x.mT, diverse)[0].tolist()
            found[remaining, diverse] = authors(tokens, x @ x.mT, diverse), ours
    return found


def test_the_same_wherever_theirs_keeps_as_many_as_asked() -> None:
    found = rounds()
    both = {pair: kept for pair, kept in found.items() if kept[0] is not None and len(kept[0]) == pair[1]}
    assert len(both) == 532
    assert {(17, diverse) for diverse in range(3, 9)} <= set(both)
    assert all(theirs == ours for theirs, ours in both.values())


def test_where_theirs_keeps_one_too_few() -> None:
    fewer = {pair for pair, (theirs, _) in rounds().items() if theirs is not None and len(theirs) != pair[1]}
    at_once = {(2 * diverse - 1, diverse) for diverse in range(2, 10)}
    later = {(6, 2), (15, 4), (19, 6)} | {(remaining, 4) for remaining in range(14, LARGEST + 1, 8)}
    assert fewer == at_once | later
    assert all(len(theirs) == pair[1] - 1 for pair, (theirs, _) in rounds().items() if pair in fewer)
