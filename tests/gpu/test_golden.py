"""Recorded outputs of the reference implementations, computed on a GPU."""

from __future__ import annotations

import pytest
import torch

from tests.engine.golden_llava import GoldenLlava, Run
from tests.engine.test_golden_decoder import KV_CASES, RunWith, check_fastv, check_pyramiddrop
from tests.methods.test_cls import CASES as CLS_CASES
from tests.methods.test_cls import GRIDS
from tests.methods.test_cls import VECTORS as FASTERVLM
from tests.methods.test_divprune import SPLICE
from vlmprune.methods.base import Signals
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.decoder_method import DecoderMethod
from vlmprune.methods.divprune import DivPrune

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


@pytest.fixture
def run_there(device) -> RunWith:
    """`golden.run` on the device; the model, which other tests share, comes back."""

    def run(golden: GoldenLlava, method: DecoderMethod) -> Run:
        golden.model.to(device)
        try:
            with device:  # where it makes its prompts
                return golden.run(method)
        finally:
            golden.model.cpu()

    return run


@pytest.mark.parametrize("case", KV_CASES)
def test_fastv(case, run_there):
    check_fastv(case, run_there)


def test_pyramiddrop(run_there):
    check_pyramiddrop("lam0.5", run_there)
