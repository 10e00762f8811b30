"""Average pooling of the patch grid: the merging baseline that ignores the image's content."""

import itertools
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch.nn.functional import adaptive_avg_pool2d

from vlmprune.methods.base import Selection, SequenceMethod, Signals
from vlmprune.methods.similarity import at_least_float32


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
