"""FasterVLM against its authors' code."""

import pytest
import torch

from tests.methods.golden import Vectors
from vlmprune.methods.base import Signals
from vlmprune.methods.cls import ClsAttention

VECTORS = Vectors("fastervlm")
GRIDS = {"b1_h16_n576": (24, 24), "b2_h4_n256": (16, 16), "b3_h2_n16": (4, 4), "video_t8_h16_n256": (16, 16)}
CASES = [(case, int(k)) for case in GRIDS for k in VECTORS.budgets(f"{case}/keep_T")]


def signals(case: str, dtype: torch.dtype = torch.float32) -> Signals:
    rows = VECTORS[f"{case}/cls_rows"].to(dtype)
    return Signals(grid=GRIDS[case], images=len(rows), cls_attention=rows[None, ..., 1:])


def test_there_are_vectors() -> None:
    assert len(CASES) == 22


@pytest.mark.parametrize(("case", "k"), CASES)
def test_keeps_what_the_authors_keep(case: str, k: int) -> None:
    kept = ClsAttention(keep=k).select(signals(case), k)
    assert torch.equal(kept.indices, VECTORS[f"{case}/keep_T{k}"])
    assert kept.features is None
    assert kept.valid is None


@pytest.mark.parametrize(("case", "k"), [case for case in CASES if "video" not in case[0]])
def test_best_first(case: str, k: int) -> None:
    kept = ClsAttention(keep_order="score").select(signals(case), k)
    assert torch.equal(kept.indices, VECTORS[f"{case}/order_T{k}"])


@pytest.mark.parametrize("case", ["b1_h16_n576", "b2_h4_n256", "b3_h2_n16"])
def test_score(case: str) -> None:
    torch.testing.assert_close(ClsAttention().score(signals(case)), VECTORS[f"{case}/scores"])


@pytest.mark.parametrize("k", [288, 144, 58, 29])
@pytest.mark.parametrize("tower", ["fp16_tower32", "fp16_tower16"])
def test_half_precision_up_to_ties(tower: str, k: int) -> None:
    """Half scores tie at the threshold; any choice among the tied ones is right."""
    half = signals("b1_h16_n576", torch.float16)
    score = ClsAttention().score(half)[0]
    torch.testing.assert_close(score.float(), VECTORS[f"{tower}/scores"][0], rtol=2e-3, atol=1e-6)
    threshold = score.sort(descending=True).values[k - 1]
    for kept in (ClsAttention().select(half, k).indices[0], VECTORS[f"{tower}/keep_T{k}"][0]):
        assert len(set(kept.tolist())) == k
        assert set((score > threshold).nonzero().flatten().tolist()) <= set(kept.tolist())
        assert bool((score[kept] >= threshold).all())


def test_reads_the_last_of_its_layers_only() -> None:
    rows = signals("b1_h16_n576").cls_attention
    other = torch.cat([torch.full_like(rows, torch.nan), rows])
    kept = ClsAttention().select(Signals(grid=(24, 24), cls_attention=other), 29)
    assert torch.equal(kept.indices, VECTORS["b1_h16_n576/keep_T29"])
