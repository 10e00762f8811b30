"""Order of a benchmark's questions, and the number that run together."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TypeVar

import torch

from vlmprune.benchmarks.base import Sample
from vlmprune.errors import UserError
from vlmprune.machine import is_memory_error
from vlmprune.terminal import say

WINDOW = 4  # batches whose questions are sorted by length: their images are in memory together

T = TypeVar("T")


def group_by_image(samples: list[Sample]) -> list[Sample]:
    """Return `samples` with all questions about one image together, images in the order of their first question."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.image_id, []).append(sample)
    return list(chain.from_iterable(groups.values()))


def windows(samples: list[Sample], batch_size: int) -> Iterator[tuple[list[Sample], list[Sample]]]:
    """Yield each window of `samples` with the next one, whose media are decoded in the background.

    A window is `WINDOW` batches, or one batch of videos, which are large.
    """
    video = any(sample.media == "video" for sample in samples)
    step = batch_size if video else WINDOW * batch_size
    for start in range(0, len(samples), step):
        yield samples[start : start + step], samples[start + step : start + 2 * step]


class BatchSize:
    """Number of questions, or of prefixes, that run in one batch; it is reduced after out-of-memory."""

    def __init__(self, size: int) -> None:
        self.asked = self.size = size

    def run_batches(self, rows: list[T], run: Callable[[list[T]], None], called: str = "questions") -> None:
        """Call `run` on batches of `rows`; a batch that does not fit into memory is halved and tried again.

        called: name of the rows in messages. `run` must skip the rows that it finished before it failed. Raises the
        error if one row does not fit.
        """
        done = 0
        while done < len(rows):
            batch, fits = rows[done : done + self.size], True
            try:
                run(batch)
            except (RuntimeError, MemoryError) as error:
                if len(batch) == 1 or not is_memory_error(error):
                    raise
                fits = False  # the failed batch's memory is freed only after its exception is
            if fits:
                done += len(batch)
            else:
                free_memory()
                self.size = max(1, len(batch) // 2)
                say(f"out of memory with {len(batch)} {called} together: continuing with {self.size}")


def free_memory() -> None:
    """Release the memory of a failed batch, on the GPU too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def memory_error(error: RuntimeError | MemoryError) -> UserError:
    """Return the error for the user if a single question does not fit into memory."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(
        f"out of memory with one question at a time ({line}): use a smaller model.dtype, model.quantization or another "
        "device; the same command resumes"
    )
