"""Which process answers which questions."""

from __future__ import annotations

from itertools import groupby

from vlmprune.batching import by_image, windows
from vlmprune.benchmarks.base import Sample


def deal(samples: list[Sample], processes: int, batch_size: int, same_batches: bool) -> list[list[Sample]]:
    """`samples` in `processes` shares, each with nearly as many questions; what belongs together is never parted.

    In float32 an answer does not depend on what is asked beside it, and all questions about an image belong together:
    its encoding and its prompts' common beginning are computed once. In half precision (same_batches) a batch of other
    questions rounds differently, so that the windows belong together that one process would go through (batching.py):
    every batch then holds what it holds there. Shares differ by at most one image's, or one window's, questions.
    """
    if same_batches:
        units = [window for window, _ in windows(by_image(samples), batch_size)]
    else:
        units = [list(group) for _, group in groupby(by_image(samples), key=lambda sample: sample.image_id)]
    shares: list[list[Sample]] = [[] for _ in range(processes)]
    for unit in units:
        min(shares, key=len).extend(unit)
    return shares
