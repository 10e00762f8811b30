"""FastV's ranking against its authors' code; the drop itself is the engine's."""

import pytest
import torch

from tests.methods.golden import Vectors
from tests.methods.synthetic import decoder_signals
from vlmprune.methods.decoder_method import DecoderStage
from vlmprune.methods.fastv import FastV

VECTORS = Vectors("fastv_select")
CASES = [(case, int(name.split(".")[0])) for case in ("llava", "tiny") for name in VECTORS.budgets(f"{case}.rank")]


@pytest.mark.parametrize(("case", "rank"), CASES)
def test_keeps_what_the_authors_keep(case: str, rank: int) -> None:
    attention = VECTORS[f"{case}.attn_last"]  # [H, L]
    start, n = VECTORS[f"{case}.meta"].tolist()
    length = attention.shape[1]
    position = torch.arange(length)
    visual = (position >= start) & (position < start + n)
    signals = decoder_signals(attention[None, :, None], visual[None])
    kept = FastV().select(signals, [DecoderStage(2, rank)]).keep[0].nonzero()[:, 0]
    everything = torch.cat([position[:start], kept, position[start + n :]])
    assert torch.equal(everything, VECTORS[f"{case}.rank{rank}.keep"])


def test_there_are_vectors() -> None:
    assert len(CASES) == 11


def test_reads_the_last_query_only() -> None:
    rows = torch.rand(2, 3, 4, 9, generator=torch.Generator().manual_seed(0))
    score = FastV().score(decoder_signals(rows))
    torch.testing.assert_close(score, rows[:, :, 3].mean(dim=1))


def test_schedule() -> None:
    assert FastV(ratio=0.5).stages(32, 576) == [DecoderStage(2, 288)]
    assert FastV(k=3, keep=64).stages(32, 576) == [DecoderStage(3, 64)]
    assert FastV(ratio=1).stages(32, 576) == [DecoderStage(2, 0)]


@pytest.mark.parametrize("k", [0, 4, 40])
def test_refuses_layers_that_are_not_there(k: int) -> None:
    with pytest.raises(ValueError, match="allowed: 1 to 3"):
        FastV(k=k, ratio=0.5).stages(4, 576)
