"""Limits on the memory of pictures: large ones are decoded one at a time, and none larger than a maximum.

A decoded pixel takes 4 bytes, and conversion and preprocessing hold several copies of a picture.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vlmprune.benchmarks.base import BadSample

LARGE = 2**25  # pixels of one sample; samples beyond it are decoded one at a time
MOST = 2**29  # pixels of one sample's pictures or frames together: 64 frames of 3840 x 2160
MOST_DECODED = 2**30  # pixels that decoding one file visits: all frames of an animation, all scans of a JPEG

_large = threading.Lock()


class _Taken(threading.local):
    """Pixels that this thread's sample has decoded so far."""

    inside = locked = False
    pixels = 0


_taken = _Taken()


@contextmanager
def one_sample() -> Iterator[None]:
    """Count the pixels of all `take` calls of this thread inside the block as those of one sample."""
    _taken.inside = True
    try:
        yield
    finally:
        if _taken.locked:
            _large.release()
        _taken.inside = _taken.locked = False
        _taken.pixels = 0


def take(pixels: int) -> None:
    """Wait until so many pixels may be decoded, added to the sample's others. Raises BadSample if they are too many.

    Outside of `one_sample` each call is counted alone and never waits.
    """
    total = pixels + (_taken.pixels if _taken.inside else 0)
    check_together(total)
    if _taken.inside:
        _taken.pixels = total
        if total > LARGE and not _taken.locked:
            _large.acquire()
            _taken.locked = True


def check_together(pixels: int) -> None:
    """Raise BadSample if the pictures or frames of one sample have too many pixels together."""
    if pixels > MOST:
        raise BadSample(f"its pictures or frames have {pixels:,} pixels together; at most {MOST:,} are decoded")


def check_decoding(pixels: int) -> None:
    """Raise ValueError if decoding one file would visit so many pixels that it takes too long."""
    if pixels > MOST_DECODED:
        raise ValueError(f"{pixels:,} pixels are to be decoded; at most {MOST_DECODED:,}")
