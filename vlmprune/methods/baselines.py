"""Baselines: no pruning, random and uniform subsets of the patch grid, average pooling."""

import itertools
import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from vlmprune.methods.base import Method, ScoreMethod, Selection, SequenceMethod, Signals
from vlmprune.methods.tensor_ops import at_least_float32


@dataclass
class Unpruned(Method):
    """Keeps every token; the engine only records the prompt. `positions` has no effect, as no position changes."""

    stage: ClassVar = "none"

    def __post_init__(self) -> None:
        self.positions = "published"  # one reference run for every value of `positions`

    def keeps_all(self, n: int) -> bool:
        return True


@dataclass
class Random(ScoreMethod):
    """Keeps a uniformly random subset, drawn per image from `seed` and the pixels that the model gets, which are
    rounded in half precision.

    The draw is made on the CPU for each image, so that it is the same in every batch and on every device.
    """

    seed: int = 0

    needs: ClassVar = ("seeds",)

    def score(self, signals: Signals) -> Tensor:
        n = signals.grid[0] * signals.grid[1]
        return torch.stack([self._draw(image_seed, n) for image_seed in signals.seeds])

    def _draw(self, image_seed: int, n: int) -> Tensor:
        # Two large odd factors keep (seed, image) pairs apart; 2**63 is what Generator accepts.
        mixed = (self.seed * 0x9E3779B97F4A7C15 + image_seed * 0xBF58476D1CE4E5B9) % 2**63
        return torch.rand(n, generator=torch.Generator().manual_seed(mixed))


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


@dataclass
class Pool(SequenceMethod):
    """Averages the projector's input over an even grid of h x w cells, the largest with h w <= k.

    A cell covers whole patches and is at most twice as long as wide, so that the count may stay below k: 29
    of 24 x 24 gives 4 x 7 = 28, 58 gives 56. The number of returned indices is the number kept. Neighbouring
    cells share a row or column of patches where the grid does not divide evenly. Output is in raster order; a
    cell takes the slot of its central patch.
    """

    needs: ClassVar = ("features",)
    merges: ClassVar = True
    scopes: ClassVar = ("tile",)

    def select(self, signals: Signals, k: int) -> Selection:
        height, width = signals.grid
        features = signals.features  # [B, N, C]
        h, w = pooled_grid(height, width, k)
        centres = [
            (2 * row + 1) * height // (2 * h) * width + (2 * column + 1) * width // (2 * w)
            for row, column in itertools.product(range(h), range(w))
        ]
        indices = torch.tensor(centres, dtype=torch.long, device=features.device).expand(len(features), -1)
        image = at_least_float32(features).mT.unflatten(2, (height, width))  # [B, C, height, width]
        pooled = adaptive_avg_pool2d(image, (h, w)).flatten(2).mT
        return Selection(indices, pooled.to(features.dtype))


@cache
def pooled_grid(height: int, width: int, k: int) -> tuple[int, int]:
    """Return the rows and columns of the grid with most cells, at most `k`; of equals, the one of squarest cells."""

    def preference(grid: tuple[int, int]) -> tuple[bool, int, float]:
        cell_height, cell_width = height / grid[0], width / grid[1]
        elongation = max(cell_height, cell_width) / min(cell_height, cell_width)
        return elongation <= 2, grid[0] * grid[1], -elongation

    grids = [(h, w) for h in range(1, height + 1) for w in range(1, width + 1) if h * w <= k]
    return max(grids, key=preference, default=(0, 0))
