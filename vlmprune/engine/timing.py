"""Timing of selection.

Every session times its method's selection with a `SelectionTimer`: two CUDA events a block, or two readings of a
monotonic clock, and no host sync until the sum is read. A caller's `Clock` is entered around the same blocks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch

TimeMark = torch.cuda.Event | float  # a time on the device's clock, or seconds on the host's


class Clock(Protocol):
    """`with clock("selection"):` adds the block's time to that part."""

    def __call__(self, part: str) -> AbstractContextManager[None]: ...


class Intervals:
    """Intervals of time, each from one mark to another."""

    def __init__(self) -> None:
        self._pairs: list[tuple[TimeMark, TimeMark]] = []

    def add(self, start: TimeMark, end: TimeMark) -> None:
        """Add one interval; both marks are of the same kind."""
        self._pairs.append((start, end))

    def milliseconds(self) -> float:
        """Return the sum of all intervals in ms; wait for the device where they were measured there."""
        total = 0.0
        for start, end in self._pairs:
            if isinstance(start, float) and isinstance(end, float):
                total += max(0.0, end - start) * 1e3  # should the clock go back, the interval counts as 0
            elif isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
                end.synchronize()
                total += start.elapsed_time(end)
        return total


class SelectionTimer:
    """Timer of the blocks of a session, on the stream where they run."""

    def __init__(self, device: torch.device, clock: Clock | None = None) -> None:
        self.device, self.clock = device, clock
        self._intervals = Intervals()

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        # While a CUDA graph is recorded nothing runs, so that its parts cannot be timed.
        if self.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            yield
            return
        start = self._mark()
        with nullcontext() if self.clock is None else self.clock(part):
            yield
        self._intervals.add(start, self._mark())

    def pop_intervals(self) -> Intervals:
        """Return the intervals timed since the last call, and clear them."""
        intervals, self._intervals = self._intervals, Intervals()
        return intervals

    def _mark(self) -> TimeMark:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event
