"""The highest rates of the device, measured: a large matrix product in the run's dtype, and a large copy.

Achieved rates are compared with these and not with those of a datasheet, which programs do not reach.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from vlmprune.errors import UserError
from vlmprune.measure.latency import mark, synchronize
from vlmprune.pruning.clock import Spans

SECONDS = 0.5  # of each measurement; long enough for a GPU's clock rate to rise
MOST_RUNS = 100_000  # limit for a clock that does not advance


@dataclass(frozen=True)
class Ceiling:
    """Highest measured rates of a device. flops: FLOP/s of the product of two `side` x `side` matrices. bandwidth:
    bytes/s of a copy, read and written."""

    flops: float
    bandwidth: float
    side: int
    copied_bytes: int


def measure_ceiling(device: torch.device, dtype: torch.dtype, seconds: float = SECONDS) -> Ceiling:
    """Measure both rates, on random numbers: on zeros a GPU is faster than on real data."""
    on_gpu = device.type == "cuda"
    side = 8192 if on_gpu else 1024 if dtype == torch.float32 else 512  # CPUs are slow in half precision
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    flops = best_rate(matmul_flops(side), lambda: torch.mm(left, right, out=product), device, seconds)

    source = torch.randint(0, 256, (2**30 if on_gpu else 2**27,), dtype=torch.uint8, device=device)  # beyond any cache
    target = torch.empty_like(source)
    bandwidth = best_rate(copied_bytes(source), lambda: target.copy_(source), device, seconds)
    return Ceiling(flops, bandwidth, side, source.nbytes)


def matmul_flops(side: int) -> int:
    """Return the FLOP of a `side` x `side` product: 2 for each multiply-accumulate."""
    return 2 * side**3


def copied_bytes(source: torch.Tensor) -> int:
    """Return the bytes moved by a copy of `source`: every byte is read once and written once."""
    return 2 * source.nbytes


def best_rate(work: float, run: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Return `work` per second of the fastest run among those that fit into `seconds`, after one warm-up run.

    Raise UserError if the clock does not advance.
    """
    run()
    synchronize(device)
    fastest, end = float("inf"), time.perf_counter() + seconds
    for number in range(MOST_RUNS):
        if number and time.perf_counter() >= end:
            break
        span, start = Spans(), mark(device)
        run()
        span.add(start, mark(device))
        fastest = min(fastest, span.milliseconds())
    if fastest <= 0:
        raise UserError("this machine's clock stands still or goes back: no speed can be measured by it")
    return work / fastest * 1e3
