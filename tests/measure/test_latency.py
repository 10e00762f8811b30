"""The stopwatch: parts exclude what nests inside them, and add up to the whole."""

from __future__ import annotations

import time

import pytest
import torch

from tests.conftest import make_batch, make_llava
from vlmprune.measure.latency import StageClock, summarise, timed
from vlmprune.methods.base import Method
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.fastv import FastV
from vlmprune.methods.none import Unpruned
from vlmprune.models.base import adapt
from vlmprune.pruning.session import Session

CPU = torch.device("cpu")


def test_an_inner_part_is_not_the_outer_ones():
    clock = StageClock(CPU)
    with clock("outer"):
        time.sleep(0.02)
        with clock("inner"):
            time.sleep(0.05)
    assert clock.spent["inner"] >= 50
    assert 20 <= clock.spent["outer"] < 50


@pytest.mark.parametrize("method", [Unpruned(), ClsAttention(ratio=0.5), FastV(ratio=0.5)])
def test_every_part_of_a_question_is_timed(method: Method):
    adapter = adapt(make_llava())
    clock = StageClock(CPU)

    def generate() -> None:
        adapter.model.generate(**make_batch([9]), max_new_tokens=5, do_sample=False, pad_token_id=0, eos_token_id=None)

    with Session(adapter, method, clock), clock.watch(adapter.model, adapter.vision_towers, adapter.projector):
        row = timed(generate, clock)
    assert clock.steps == 4
    for part in ("vision", "projector", "prefill", "decode_per_token", "end_to_end"):
        assert row[part] > 0, part
    assert (row["selection"] > 0) == (method.stage != "none")
    parts = row["vision"] + row["projector"] + row["prefill"] + 4 * row["decode_per_token"]
    assert parts < row["end_to_end"]


def test_summary_of_the_rows():
    rows = [{"prefill": float(ms), "decode_per_token": None} for ms in range(1, 11)]
    assert summarise(rows) == {"prefill": {"median_ms": 5.5, "p90_ms": 10.0}, "decode_per_token": None}
