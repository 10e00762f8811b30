"""Recorded outputs of the reference implementations, computed on a GPU."""

from __future__ import annotations

import pytest
import torch

from tests.engine.golden_llava import GoldenLlava, Run
from tests.engine.test_golden_decoder import KV, KV_CASES, PYRAMID, kept_positions, llava
from tests.methods.golden import MERGED
from tests.methods.test_cls import CASES as CLS_CASES
from tests.methods.test_cls import GRIDS
from tests.methods.test_cls import VECTORS as FASTERVLM
from tests.methods.test_divprune import SPLICE
from vlmprune.methods.base import Signals
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.decoder_method import DecoderMethod
from vlmprune.methods.divprune import DivPrune
from vlmprune.methods.fastv import FastV
from vlmprune.methods.pyramiddrop import PyramidDrop

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(("case", "k"), CLS_CASES)
def test_cls(case, k, device):
    rows = FASTERVLM[f"{case}/cls_rows"].to(device)
    signals = Signals(grid=GRIDS[case], images=len(rows), cls_attention=rows[None, ..., 1:])
    assert torch.equal(ClsAttention(keep=k).select(signals, k).indices.cpu(), FASTERVLM[f"{case}/keep_T{k}"])


def test_divprune(device):
    order, x = SPLICE["selection_order"], SPLICE["image_features"].to(device)
    kept = DivPrune(keep=len(order)).select(Signals(grid=(1, x.shape[1]), projected=x), len(order)).indices
    assert torch.equal(kept[0].cpu(), order.sort().values)


def run_there(golden: GoldenLlava, method: DecoderMethod, device: torch.device) -> Run:
    """`golden.run` on the device; the model, which other tests share, comes back."""
    golden.model.to(device)
    try:
        with device:  # where it makes its prompts
            return golden.run(method)
    finally:
        golden.model.cpu()


@pytest.mark.parametrize("case", KV_CASES)
def test_fastv(case, device):
    k, ratio = case[1:].split("_r")
    run = run_there(llava("fastv_hf_kv"), FastV(k=int(k), ratio=float(ratio)), device)
    assert kept_positions(run, 35, 576, 673) == KV[f"{case}.keep"].tolist()
    assert run.cache_lengths == KV[f"{case}.kvlen"].tolist()
    torch.testing.assert_close(run.last[0].cpu(), KV[f"{case}.last"], **MERGED)
    torch.testing.assert_close(run.decode[:, 0].cpu(), KV[f"{case}.decode"], **MERGED)


def test_pyramiddrop(device):
    start, n, length = PYRAMID["lam0.5.img"].tolist()
    run = run_there(llava("pyramiddrop", start, n, length), PyramidDrop(), device)
    assert run.cache_lengths == PYRAMID["lam0.5.kvlen"].tolist()
    torch.testing.assert_close(run.last[0].cpu(), PYRAMID["lam0.5.last"], **MERGED)
    assert kept_positions(run, start, n, length) == PYRAMID["lam0.5.stage2.keep_orig"].tolist()
