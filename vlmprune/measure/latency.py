"""Latency of one generate() call, part by part, and the summary of many calls.

Latency is never taken from a batched evaluation, which gives the throughput of a benchmark, not a user's waiting time.
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

from vlmprune.engine.timing import Intervals, TimeMark

Times = dict[str, float | None]  # part -> ms


def timestamp(device: torch.device) -> TimeMark:
    """Return the current time: an event on the device's current stream, or on a CPU the monotonic clock in seconds."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all queued work; do nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class StageClock:
    """Clock for the parts of one generate() call. Parts nest: the time of an inner part does not count for the outer.

    On CUDA a boundary is an event between the kernels of two parts, so that the host runs ahead of the device as
    without a clock; only reading the times waits.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.steps = -1  # decode steps; the first forward pass is the prefill
        self.whole, self.first_token = Intervals(), Intervals()
        self._parts: dict[str, Intervals] = defaultdict(Intervals)
        self._open: list[str] = []
        self._begin: TimeMark
        self._last: TimeMark

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        self.enter(part)
        yield
        self.leave()

    @property
    def milliseconds(self) -> dict[str, float]:
        """Milliseconds by part; 0 for a part that did not run."""
        return defaultdict(float, {part: spans.milliseconds() for part, spans in self._parts.items()})

    def enter(self, part: str) -> None:
        """Start `part`, and pause the part that was running."""
        self._charge()
        if not self._open:
            self._begin = self._last
        self._open.append(part)

    def leave(self) -> None:
        """End the innermost part, and continue the one that it interrupted."""
        self._charge()
        self._open.pop()
        if not self._open:
            self.whole.add(self._begin, self._last)

    def _charge(self) -> None:
        now = timestamp(self.device)
        if self._open:
            self._parts[self._open[-1]].add(self._last, now)
        self._last = now

    @contextmanager
    def watch(self, model: nn.Module, vision_towers: list[nn.Module], projector: nn.Module) -> Iterator[None]:
        """Time the encoder, the projector and the forward passes: the first is the prefill, later ones decode."""

        def before_model(*_: Any) -> None:
            self.steps += 1
            self.enter("prefill" if self.steps == 0 else "decode")

        def after_model(*_: Any) -> None:
            self.leave()
            if self.steps == 0:
                self.first_token.add(self._begin, self._last)

        handles = []
        # First before and last after each module, so that the engine's own hooks run inside the part (selection apart).
        for module, before, after in (
            *((tower, lambda *_: self.enter("vision"), lambda *_: self.leave()) for tower in vision_towers),
            (projector, lambda *_: self.enter("projector"), lambda *_: self.leave()),
            (model, before_model, after_model),
        ):
            handles.append(module.register_forward_pre_hook(before, prepend=True))
            handles.append(module.register_forward_hook(after))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def time_parts(generate: Callable[[], Any], clock: StageClock) -> tuple[Times, Any]:
    """Run generate() while `clock` watches the model, and return its times in ms and its output.

    vision, projector: without selection. selection: at every stage of the method. prefill: the decoder's first pass
    together with all selection, so that methods before and inside the decoder compare. first_token: all up to the first
    token's logits, for which a user waits. decode_per_token: None if nothing was decoded. other: the rest, such as
    generate()'s bookkeeping; end_to_end = vision + projector + prefill + decode + other.
    """
    synchronize(clock.device)
    with clock("other"):
        output = generate()
    milliseconds = clock.milliseconds
    return {
        "vision": milliseconds["vision"],
        "selection": milliseconds["selection"],
        "projector": milliseconds["projector"],
        "prefill": milliseconds["prefill"] + milliseconds["selection"],
        "first_token": clock.first_token.milliseconds(),
        "decode_per_token": milliseconds["decode"] / clock.steps if clock.steps > 0 else None,
        "other": milliseconds["other"],
        "end_to_end": clock.whole.milliseconds(),
    }, output


def summarise(rows: list[Times]) -> dict[str, dict[str, float] | None]:
    """Return for every part its median and percentiles 25, 75 and 90 (nearest rank) in ms, and its number of calls.

    None for a part without calls.
    """
    summary: dict[str, dict[str, float] | None] = {}
    for part in rows[0]:
        values = sorted(value for row in rows if (value := row[part]) is not None)
        summary[part] = None
        if values:
            ranks = {f"p{percent}_ms": values[-(-percent * len(values) // 100) - 1] for percent in (25, 75, 90)}
            summary[part] = {"median_ms": statistics.median(values), **ranks, "n": len(values)}
    return summary
