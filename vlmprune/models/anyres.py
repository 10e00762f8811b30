"""AnyRes geometry: the patches of a tiled image that reach the prompt, from transformers' packing functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape, unpad_image

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Anyres:
    """One tiled image: a base tile, then rows x columns tiles of `side` x `side` patches each.

    rectangle: first row, end row, first column, end column of the stitched patches that survive unpadding.
    """

    side: int
    rows: int
    columns: int
    rectangle: tuple[int, int, int, int]

    @property
    def tiles(self) -> int:
        """Number of tiles, the base tile included."""
        return 1 + self.rows * self.columns

    @property
    def detail(self) -> int:
        """Number of patches of the tiles after the base that reach the prompt."""
        top, bottom, left, right = self.rectangle
        return (bottom - top) * (right - left)

    @property
    def newlines(self) -> int:
        """Number of newline embeddings: one after each stitched row."""
        top, bottom, _, _ = self.rectangle
        return bottom - top

    @property
    def slots(self) -> int:
        """Number of placeholders of the image in a prompt."""
        return self.side**2 + self.detail + self.newlines

    def slot_patches(self) -> Tensor:
        """Return int64 [slots], the patch at each placeholder: tile * side^2 + index in the tile; -1 at a newline."""
        n = self.side**2
        grid = torch.arange(n, n * self.tiles).view(self.rows, self.columns, self.side, self.side)
        top, bottom, left, right = self.rectangle
        stitched = grid.transpose(1, 2).reshape(self.rows * self.side, self.columns * self.side)
        lines = stitched[top:bottom, left:right]
        return torch.cat([torch.arange(n), torch.cat([lines, lines.new_full((len(lines), 1), -1)], dim=1).flatten()])

    def alive(self) -> list[tuple[Tensor, Size]]:
        """Return for each tile, base first, the patches that reach the prompt, int64 [n], and their grid."""
        whole = torch.arange(self.side**2)
        top, bottom, left, right = self.rectangle
        units = [(whole, (self.side, self.side))]
        patches = whole.view(self.side, self.side)
        for row in range(self.rows):
            for column in range(self.columns):
                y, x = row * self.side, column * self.side
                part = patches[max(0, top - y) : max(0, bottom - y), max(0, left - x) : max(0, right - x)]
                units.append((part.flatten(), (part.shape[0], part.shape[1])))
        return units


def anyres(image_size: Size, pinpoints: list[list[int]], tile_size: int, side: int) -> Anyres:
    """Return the geometry of an image of `image_size` pixels, with tiles `tile_size` pixels and `side` patches wide."""
    rows, columns = get_anyres_image_grid_shape(image_size, pinpoints, tile_size)
    height, width = rows * side, columns * side
    kept = unpad_image(torch.arange(height * width).view(1, height, width), image_size)[0]
    first = int(kept[0, 0]) if kept.numel() else 0  # unpadding may leave nothing of a very long image
    top, left = divmod(first, width)
    return Anyres(side, rows, columns, (top, top + kept.shape[0], left, left + kept.shape[1]))


def best_filled_resolution(image_size: Size, pinpoints: Sequence[Sequence[int]]) -> Size:
    """Return the resolution of which the resized image fills the largest fraction, the first of equals (FasterVLM)."""
    height, width = image_size

    def filled(resolution: Sequence[int]) -> float:
        scale = min(resolution[0] / height, resolution[1] / width)
        return int(height * scale) * int(width * scale) / (resolution[0] * resolution[1])

    best = max(pinpoints, key=filled)
    return best[0], best[1]
