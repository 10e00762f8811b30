"""Assignment of questions to processes."""

from __future__ import annotations

from itertools import groupby

from vlmprune.batching import by_image, windows
from vlmprune.benchmarks.base import Sample


def deal(samples: list[Sample], processes: int, batch_size: int, same_batches: bool) -> list[list[Sample]]:
    """Split `samples` into `processes` shares that differ by at most one image's, or one window's, questions.

    In float32 an answer does not depend on the other questions of its batch, and the questions of an image stay in one
    share, so that its encoding and the shared prefix of its prompts are computed once. In half precision (same_batches)
    the composition of a batch changes the rounding. The windows that a single process would form (batching.py) then
    stay whole, and every batch holds the same questions as with one process.
    """
    if same_batches:
        units = [window for window, _ in windows(by_image(samples), batch_size)]
    else:
        units = [list(group) for _, group in groupby(by_image(samples), key=lambda sample: sample.image_id)]
    shares: list[list[Sample]] = [[] for _ in range(processes)]
    for unit in units:
        min(shares, key=len).extend(unit)
    return shares
