"""Padding and cropping that enlarge a picture, with limits: a thin picture could take gigabytes."""

from __future__ import annotations

from typing import Any

from PIL import Image

from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.room import take
from vlmprune.models.views import Pixels

MOST_PIXELS = 2 * 89_478_485  # where PIL refuses to decode a picture


def check_pixels(size: Pixels, made: int) -> None:
    """Raise BadSample if a picture of `size` would be enlarged to more than MOST_PIXELS; made: its pixels then.

    Otherwise count them with `take`, so that large pictures are enlarged one at a time.
    """
    if made > MOST_PIXELS:
        width, height = size
        raise BadSample(
            f"its picture of {width} x {height} pixels would be made one of {made:,}; at most {MOST_PIXELS:,}"
        )
    take(made)


def check_crop(image: Image.Image, processor: Any) -> None:
    """Raise BadSample if the processor would make a thin picture too large when it resizes the short side."""
    if processor.do_resize and (short := dict(processor.size).get("shortest_edge")):
        check_pixels(image.size, short**2 * max(image.size) // min(image.size))


def pad_to_square(image: Image.Image, mean: list[float]) -> Image.Image:
    """Centre the image on a square of the colour `mean`, each of 0 to 1 (LLaVA's expand2square). Raises BadSample."""
    width, height = image.size
    side = max(width, height)
    check_pixels(image.size, side**2)
    square = Image.new("RGB", (side, side), tuple(int(channel * 255) for channel in mean))
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square
