"""The device's ceiling counts FLOPs and bytes as torch does."""

from __future__ import annotations

import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vlmprune.speed.bench import best_rate, copied_bytes, matmul_flops, measure_ceiling

CPU = torch.device("cpu")


def test_work_of_a_product_is_what_torch_counts():
    with FlopCounterMode(display=False) as counter:
        torch.randn(48, 48) @ torch.randn(48, 48)
    assert matmul_flops(48) == counter.get_total_flops()


def test_a_copy_reads_and_writes_every_byte():
    assert copied_bytes(torch.zeros(10, dtype=torch.float16)) == 40


def test_the_rate_is_that_of_the_fastest_run():
    naps = iter([0.2, 0.05, 0.02, 0.05])
    rate = best_rate(1000, lambda: time.sleep(next(naps)), CPU, 0.08)
    assert 1000 / 0.05 < rate <= 1000 / 0.02


def test_one_run_is_enough_where_it_takes_longer_than_the_time_given():
    calls = []
    assert best_rate(1.0, lambda: calls.append(1), CPU, 0.0) > 0
    assert len(calls) == 2  # one of them is the warm-up


@pytest.mark.slow
@pytest.mark.parametrize("dtype, side", [(torch.float32, 1024), (torch.bfloat16, 512), (torch.float16, 512)])
def test_a_ceiling_of_this_machine(dtype, side):
    ceiling = measure_ceiling(CPU, dtype, seconds=0.05)
    assert ceiling.flops > 1e8 and ceiling.bandwidth > 1e8
    assert (ceiling.side, ceiling.copied_bytes) == (side, 2**27)
