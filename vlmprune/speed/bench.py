"""Measurement of all cases in turn on one load, and of the device's highest rates.

Achieved rates are compared with these and not with those of a datasheet, which programs do not reach.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from vlmprune.engine.adapter import TextRelevance
from vlmprune.engine.compiled import CompiledModel
from vlmprune.engine.kv_cache import cache_bytes
from vlmprune.engine.prompt_state import Record
from vlmprune.engine.timing import Intervals
from vlmprune.errors import UserError
from vlmprune.evaluation.batching import free_memory
from vlmprune.evaluation.latency_pass import time_generate
from vlmprune.machine import is_memory_error
from vlmprune.measure.latency import Times, synchronize, timestamp
from vlmprune.measure.memory import cache_bytes_per_token, peak_mb, reset_peak
from vlmprune.models.loading import LoadedModel
from vlmprune.speed import Load
from vlmprune.speed.load import Case, SyntheticBatch

BACKEND: str | None = None  # of torch.compile; None for inductor
QUESTION = "What is in the middle of the picture?"  # for methods that read it; CLIP pads all questions to one length


@dataclass
class Measurement:
    """Measurements of one case on one load. cache_bytes: KV cache of the batch's prompts after prefill;
    cache_bytes_per_token: growth per decode step."""

    case: Case
    batch_size: int
    times: list[Times] = field(default_factory=list)
    peak_mb: float = 0.0
    peak_since: str = ""
    cache_bytes: int = 0
    cache_bytes_per_token: int = 0
    record: Record | None = None
    out_of_memory: bool = False


class Bench:
    """One model and the load that its cases are measured on.

    towers: text towers by the identity of their checkpoint. advance: called with 1 after every call, made or left out.
    """

    def __init__(
        self, loaded: LoadedModel, towers: dict[str, TextRelevance], load: Load, advance: Callable[[int], None]
    ) -> None:
        self.loaded, self.towers, self.load, self.advance = loaded, towers, load, advance
        self._compiled = CompiledModel(loaded.adapter, BACKEND)

    @staticmethod
    def calls(cases: list[Case], batch_sizes: int, load: Load) -> int:
        """Return the number of calls for all cases and batch sizes."""
        plain = sum(not case.compiled for case in cases)
        early = plain if plain < len(cases) else 0
        return (len(cases) * (1 + load.warm_up + load.repeats) + early) * batch_sizes

    def measure(self, cases: list[Case], prompts: SyntheticBatch) -> Iterator[list[Measurement]]:
        """Warm up, then run `load.repeats` rounds; yield the measurements so far after each, in the order of `cases`.

        Compiling takes minutes and may fail, so the other cases get an extra round before it. A case that runs out of
        memory is marked and left out of all later rounds.
        """
        measured = [Measurement(case, prompts.batch_size) for case in cases]
        plain = [one for one in measured if not one.case.compiled]
        self._prepare(plain, prompts)
        if len(plain) < len(measured):
            self._round(plain, prompts)
            yield plain
            self._prepare([one for one in measured if one.case.compiled], prompts)
        for turn in range(self.load.repeats):
            start = turn % len(measured)  # rotate the order, so that no case is always first
            self._round(measured[start:] + measured[:start], prompts)
            yield measured

    def _prepare(self, cases: list[Measurement], prompts: SyntheticBatch) -> None:
        for one in cases:
            self._try(one, lambda one: self._first_call(one, prompts))
            for _ in range(self.load.warm_up):
                self._try(one, lambda one: self._call(one, prompts))

    def _round(self, cases: list[Measurement], prompts: SyntheticBatch) -> None:
        for one in cases:
            self._try(one, lambda one: self._timed_call(one, prompts))

    def _try(self, one: Measurement, call: Callable[[Measurement], object]) -> None:
        if not one.out_of_memory:
            try:
                call(one)
            except RuntimeError as error:
                if not is_memory_error(error):
                    raise
                one.out_of_memory = True
            if one.out_of_memory:  # memory of the failed call is freed only after its error
                free_memory()
        self.advance(1)

    def _first_call(self, one: Measurement, prompts: SyntheticBatch) -> None:
        """Make a case's first call and record its KV cache. A compiled case compiles here."""
        new_tokens = self.load.new_tokens if one.case.compiled else 1
        _, one.record, output = self._answer(one.case, prompts, new_tokens, return_dict_in_generate=True)
        cache = output.past_key_values
        one.cache_bytes_per_token = cache_bytes_per_token(cache)
        if one.case.compiled:  # its static cache has room for more than the prompts
            one.cache_bytes = one.cache_bytes_per_token * max(one.record.prompt_lengths)
        else:
            one.cache_bytes = cache_bytes(cache)

    def _timed_call(self, one: Measurement, prompts: SyntheticBatch) -> None:
        one.peak_since = reset_peak(self.loaded.device)
        times = self._call(one, prompts)
        one.peak_mb = max(one.peak_mb, peak_mb(self.loaded.device))
        one.times.append(times)

    def _call(self, one: Measurement, prompts: SyntheticBatch) -> Times:
        return self._answer(one.case, prompts, self.load.new_tokens)[0]

    def _answer(
        self, case: Case, prompts: SyntheticBatch, new_tokens: int, **options: Any
    ) -> tuple[Times, Record, Any]:
        source = case.text_tower
        tower = None if source is None else self.towers[source.identity]
        # Without an end-of-sequence token every prompt generates `new_tokens` tokens.
        return time_generate(
            self.loaded,
            case.method,
            prompts.inputs,
            [QUESTION] * prompts.batch_size,
            new_tokens,
            tower,
            self._compiled if case.compiled else None,
            eos_token_id=None,
            **options,
        )


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
        span, start = Intervals(), timestamp(device)
        run()
        span.add(start, timestamp(device))
        fastest = min(fastest, span.milliseconds())
    if fastest <= 0:
        raise UserError("this machine's clock stands still or goes back: no speed can be measured by it")
    return work / fastest * 1e3
