"""What one question costs in time: a short batch-1 pass, pruned and unpruned in turn on the same questions.

A batched evaluation says how fast a benchmark ends, not how long a user waits; so latency is never read off it.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class StageClock:
    """Milliseconds by part of one generate() call. Parts nest: the time of an inner one is not the outer one's.

    On CUDA every boundary is synchronised, which is why only this pass is timed so and the evaluation is not.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.spent: dict[str, float] = defaultdict(float)
        self.steps = -1  # decode steps; the first forward pass is the prefill
        self._open: list[str] = []
        self._mark = 0.0

    def __call__(self, part: str) -> Any:
        return self._within(part)

    @contextmanager
    def _within(self, part: str) -> Iterator[None]:
        self.enter(part)
        yield
        self.leave()

    def enter(self, part: str) -> None:
        """`part` starts; what was running pauses."""
        self._charge()
        self._open.append(part)

    def leave(self) -> None:
        """The innermost part ends; what it interrupted goes on."""
        self._charge()
        self._open.pop()

    def _charge(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if self._open:
            self.spent[self._open[-1]] += (now - self._mark) * 1e3
        self._mark = now

    @contextmanager
    def watch(self, model: nn.Module, vision_towers: list[nn.Module], projector: nn.Module) -> Iterator[None]:
        """Charge the tower, the projector and the forward passes: the first is the prefill, later ones decode."""

        def before_model(*_: Any) -> None:
            self.steps += 1
            self.enter("prefill" if self.steps == 0 else "decode")

        handles = []
        # First in, last out: the engine's own hooks on these modules run inside the part (selection apart).
        for module, before in (
            *((tower, lambda *_: self.enter("vision")) for tower in vision_towers),
            (projector, lambda *_: self.enter("projector")),
            (model, before_model),
        ):
            handles.append(module.register_forward_pre_hook(before, prepend=True))
            handles.append(module.register_forward_hook(lambda *_: self.leave()))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def timed(generate: Callable[[], Any], clock: StageClock) -> dict[str, float | None]:
    """Run one question and return its times in ms: the parts, per-token decode and end to end.

    prefill: the decoder's first pass together with all selection, wherever a method does it, so that methods before and
    inside the decoder are charged alike; `selection` is its share of that.
    """
    clock.enter("other")
    start = time.perf_counter()
    generate()
    clock.leave()
    end_to_end = (time.perf_counter() - start) * 1e3
    spent = clock.spent
    return {
        "vision": spent["vision"],
        "selection": spent["selection"],
        "projector": spent["projector"],
        "prefill": spent["prefill"] + spent["selection"],
        "decode_per_token": spent["decode"] / clock.steps if clock.steps > 0 else None,
        "end_to_end": end_to_end,
    }


def summarise(rows: list[dict[str, float | None]]) -> dict[str, dict[str, float] | None]:
    """Median and 90th percentile in ms of every part; None where nothing was measured (no decode step)."""
    summary: dict[str, dict[str, float] | None] = {}
    for part in rows[0]:
        values = sorted(value for row in rows if (value := row[part]) is not None)
        summary[part] = (
            {"median_ms": statistics.median(values), "p90_ms": values[min(len(values) - 1, int(0.9 * len(values)))]}
            if values
            else None
        )
    return summary
