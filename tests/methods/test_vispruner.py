"""VisPruner against its authors' code, and where theirs fails."""

import pytest
import torch

from tests.methods.golden import Vectors
from tests.methods.synthetic import random_signals
from vlmprune.methods.base import Signals
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.vispruner import VisPruner, drop_duplicates

VECTORS = Vectors("vispruner")
GRIDS = {"b1_h16_n576_c64": (24, 24), "b1_h2_n16_c4": (4, 4)}
EXACT = [key.removesuffix("/keep") for key in VECTORS if key.startswith("robust_") and key.endswith("/keep")]
RUN = [(case, suffix) for case in GRIDS for suffix in VECTORS.budgets(f"{case}/keep_")]
FAILED = [(case, suffix) for case in GRIDS for suffix in VECTORS.budgets(f"{case}/raises_")]


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
    k, ratio = parameters(case.removeprefix("robust_"))
    kept = VisPruner(important_ratio=ratio).select(signals(case, (24, 24)), k)
    assert torch.equal(kept.indices, VECTORS[f"{case}/keep"])


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
    x = torch.nn.functional.normalize(given.features, dim=-1)
    left = drop_duplicates(ranked, x @ x.mT, 8)[0] % 8
    assert sorted(left.tolist()) == list(range(8))


@pytest.mark.parametrize("ratio", [-0.1, 1.1])
def test_refuses_a_share_outside_0_to_1(ratio: float) -> None:
    with pytest.raises(ValueError, match="allowed: 0 to 1"):
        VisPruner(important_ratio=ratio)
