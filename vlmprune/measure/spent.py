"""Seconds of an evaluation by activity."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass
class Spent:
    """Seconds of an evaluation: waiting for images, prefixes shared by several questions, and questions."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("media", "shared", "questions"), 0.0))
    beginnings: int = 0  # shared prefixes that were run
    whole: int = 0  # questions that were run with their whole prompt

    @contextmanager
    def on(self, part: str, device: torch.device) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:  # a batch that did not fit into memory took its time too
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            self.seconds[part] += max(0.0, time.perf_counter() - start)
