"""A stopwatch that the engine reports to; the default one measures nothing and costs nothing."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Clock(Protocol):
    """`with clock("selection"):` adds the block's time to that part."""

    def __call__(self, part: str) -> AbstractContextManager[None]: ...


class NoClock:
    """Measures nothing."""

    def __call__(self, part: str) -> AbstractContextManager[None]:
        return nullcontext()
