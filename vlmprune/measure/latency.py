"""A stopwatch for one generate() call, part by part, and the summary of many calls.

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

from vlmprune.pruning.clock import Mark, Spans

Times = dict[str, float | None]  # part -> ms


def mark(device: torch.device) -> Mark:
    """Now: an event on the device's current stream, or on a CPU the monotonic clock in seconds."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class StageClock:
    """Times the parts of one generate() call. Parts nest: the time of an inner one is not the outer one's.

    On CUDA a boundary is an event between the kernels of two parts, so that the host runs ahead of the device as it
    does when nobody measures; only reading the times waits.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.steps = -1  # decode steps; the first forward pass is the prefill
        self.whole, self.first_token = Spans(), Spans()
        self._parts: dict[str, Spans] = defaultdict(Spans)
        self._open: list[str] = []
        self._begin: Mark
        self._last: Mark

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        self.enter(part)
        yield
        self.leave()

    @property
    def spent(self) -> dict[str, float]:
        """Milliseconds by part; 0 for one that never ran."""
        return defaultdict(float, {part: spans.milliseconds() for part, spans in self._parts.items()})

    def enter(self, part: str) -> None:
        """`part` starts; what was running pauses."""
        self._charge()
        if not self._open:
            self._begin = self._last
        self._open.append(part)

    def leave(self) -> None:
        """The innermost part ends; what it interrupted goes on."""
        self._charge()
        self._open.pop()
        if not self._open:
            self.whole.add(self._begin, self._last)

    def _charge(self) -> None:
        now = mark(self.device)
        if self._open:
            self._parts[self._open[-1]].add(self._last, now)
        self._last = now

    @contextmanager
    def watch(self, model: nn.Module, vision_towers: list[nn.Module], projector: nn.Module) -> Iterator[None]:
        """Charge the tower, the projector and the forward passes: the first is the prefill, later ones decode."""

        def before_model(*_: Any) -> None:
            self.steps += 1
            self.enter("prefill" if self.steps == 0 else "decode")

        def after_model(*_: Any) -> None:
            self.leave()
            if self.steps == 0:
                self.first_token.add(self._begin, self._last)

        handles = []
        # First in, last out: the engine's own hooks on these modules run inside the part (selection apart).
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


def timed(generate: Callable[[], Any], clock: StageClock) -> tuple[Times, Any]:
    """Run generate() under a watching `clock`; returns its times in ms and what it returned.

    vision, projector: without selection. selection: wherever the method does it. prefill: the decoder's first pass
    together with all selection, so that methods before and inside the decoder are charged alike. first_token: all up to
    the first token's logits, as a user waits for them. decode_per_token: None where nothing was decoded. other: what is
    left, such as generate()'s own bookkeeping; end_to_end = vision + projector + prefill + decode + other.
    """
    synchronize(clock.device)
    with clock("other"):
        output = generate()
    spent = clock.spent
    return {
        "vision": spent["vision"],
        "selection": spent["selection"],
        "projector": spent["projector"],
        "prefill": spent["prefill"] + spent["selection"],
        "first_token": clock.first_token.milliseconds(),
        "decode_per_token": spent["decode"] / clock.steps if clock.steps > 0 else None,
        "other": spent["other"],
        "end_to_end": clock.whole.milliseconds(),
    }, output


def summarise(rows: list[Times]) -> dict[str, dict[str, float] | None]:
    """Of every part the median and 90th percentile in ms (nearest rank) and how many calls had it; None for none."""
    summary: dict[str, dict[str, float] | None] = {}
    for part in rows[0]:
        values = sorted(value for row in rows if (value := row[part]) is not None)
        rank = -(-9 * len(values) // 10)
        summary[part] = (
            {"median_ms": statistics.median(values), "p90_ms": values[rank - 1], "n": len(values)} if values else None
        )
    return summary
