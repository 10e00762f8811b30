"""Uniform pruning: an evenly spaced subset of the patch grid."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from vlmprune.methods.base import Selection, SequenceMethod, Signals


@dataclass
class Uniform(SequenceMethod):
    """Keeps k patches spread evenly over the image, whatever its content.

    The k tokens are divided among r ~ sqrt(k h / w) evenly spaced rows, as equally as possible, and lie at the centres
    of equal intervals of their row. So 29 of 24 x 24 becomes 5 rows of 5 or 6.
    """

    scopes: ClassVar = ("tile",)

    def select(self, signals: Signals, k: int) -> Selection:
        height, width = signals.grid
        indices = torch.tensor(evenly_spaced(height, width, k), dtype=torch.long)
        return Selection(indices.expand(signals.images, -1))


def evenly_spaced(height: int, width: int, k: int) -> list[int]:
    """Return `k` distinct raster indices of a height x width grid, ascending and as even as whole rows allow."""
    if k == 0:
        return []
    fewest = -(-k // width)  # a row holds at most `width` tokens
    rows = max(fewest, min(height, k, round(math.sqrt(k * height / width))))
    indices = []
    for row in range(rows):
        in_row = k * (row + 1) // rows - k * row // rows
        y = (2 * row + 1) * height // (2 * rows)
        indices += [y * width + (2 * column + 1) * width // (2 * in_row) for column in range(in_row)]
    return indices
