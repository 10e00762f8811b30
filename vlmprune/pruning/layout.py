"""Where visual tokens come from and which of them are ranked together: images -> tiles -> grid -> slots.

An encoding of several images gives `tokens`, numbered through: tile after tile (a tile is an image, a crop or a frame),
each in raster order. A unit is what one selection ranks: the tokens of a tile that reach the prompt, or those of a
whole image. Units of the same shape form a group, which a method sees as one batch of images.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Unit:
    """Tokens that are ranked together. tile: the first tile that they come from. grid: their rows and columns."""

    tokens: Tensor  # int64 [n], on the CPU
    grid: tuple[int, int]
    tile: int


@dataclass(frozen=True)
class Group:
    """Units of one shape. index: int64 [units, n], their tokens. tiles: the first tile of each."""

    index: Tensor
    grid: tuple[int, int]
    tiles: list[int]

    def only(self, rows: list[int]) -> Group:
        """Some of its units."""
        if len(rows) == len(self.tiles):
            return self
        return Group(self.index[rows], self.grid, [self.tiles[row] for row in rows])


@dataclass(frozen=True)
class Layout:
    """One encoding.

    pixels: the pixels of each tile. slots: places in the prompts that its features fill, newlines among them.
    stays: those of them that pruning leaves alone. tile_tokens: tokens of a tile. tile_rows, first_row: rows that a
    tile has where selection happens, and the first that is a token ([CLS] may come before it). images: the image that
    each tile belongs to; None where each is its own. order: int64 [slots], the token that stands at each slot, -1 where
    none does; None where slots are the tokens in their order. stitched: whether an image's tiles after its first make
    up one picture, whose rows of slots run through several of them.
    """

    groups: list[Group]
    pixels: list[Tensor]
    slots: int
    tile_tokens: int
    tile_rows: int
    first_row: int = 0
    stays: int = 0
    images: list[int] | None = None
    order: Tensor | None = None
    stitched: bool = False

    def rows(self, tokens: Tensor) -> Tensor:
        """Where tokens stand among all rows of all tiles."""
        if self.tile_rows == self.tile_tokens:
            return tokens
        return tokens // self.tile_tokens * self.tile_rows + self.first_row + tokens % self.tile_tokens

    def slots_by_image(self) -> list[int]:
        """Count the slots that each image fills; newlines and the like belong to the image before them."""
        owners = torch.tensor(self.images or list(range(len(self.pixels))))
        if self.order is None:
            return (torch.bincount(owners) * self.tile_tokens).tolist()
        tiles = self.order.cpu().clamp(min=0) // self.tile_tokens
        return torch.bincount(owners[tiles].where(self.order.cpu() >= 0, 0).cummax(dim=0).values).tolist()

    def largest(self, values: Tensor) -> Tensor:
        """For each token of the encoding the largest of `values` [tokens] in its image; of those that are ranked."""
        owners = torch.tensor(self.images or list(range(len(self.pixels)))).to(values.device, non_blocking=True)
        owner = owners.repeat_interleave(self.tile_tokens)
        ranked = torch.cat([group.index.flatten() for group in self.groups])
        largest = values.new_full((len(self.pixels),), -torch.inf)  # at least as many tiles as images
        return largest.scatter_reduce(0, owner[ranked], values[ranked], "amax")[owner]

    def by_count(self, shares: Callable[[list[int]], list[int]]) -> Iterator[tuple[Group, int]]:
        """The groups, each cut into units of which the same number is kept, and that number.

        shares: tokens of each unit of one image -> how many of them are kept.
        """
        owners = self.images or list(range(len(self.pixels)))
        images: dict[int, list[tuple[int, int]]] = defaultdict(list)  # (tile, group) of each unit
        for number, group in enumerate(self.groups):
            for tile in group.tiles:
                images[owners[tile]].append((tile, number))
        kept: dict[tuple[int, int], int] = {}
        for units in map(sorted, images.values()):  # by tile, whatever shapes the batch brought first
            sizes = [self.groups[number].index.shape[1] for _, number in units]
            kept |= zip(units, shares(sizes), strict=True)
        for number, group in enumerate(self.groups):
            counts = [kept[tile, number] for tile in group.tiles]
            for count in dict.fromkeys(counts):
                yield group.only([row for row, own in enumerate(counts) if own == count]), count


def whole_tiles(pixels: Tensor, grid: tuple[int, int], extra_rows: int = 0) -> Layout:
    """Tiles [U, 3, H, W] of which every token reaches the prompt, each tile a unit."""
    tiles, n = len(pixels), grid[0] * grid[1]
    index = torch.arange(tiles * n, device=pixels.device).view(tiles, n)
    group = Group(index, grid, list(range(tiles)))
    order = torch.cat([index.new_full((tiles, extra_rows), -1), index], dim=1).flatten() if extra_rows else None
    return Layout([group], list(pixels), tiles * (n + extra_rows), n, n + extra_rows, extra_rows, order=order)


def together(units: list[Unit]) -> Unit:
    """All tiles of an image as one unit, which has no grid of its own."""
    tokens = torch.cat([unit.tokens for unit in units])
    return Unit(tokens, (1, len(tokens)), units[0].tile)


def grouped(units: list[Unit], device: torch.device) -> list[Group]:
    """Units of the same grid together, in the order in which each shape comes first."""
    shapes: dict[tuple[int, int], list[Unit]] = defaultdict(list)
    for unit in units:
        if len(unit.tokens):
            shapes[unit.grid].append(unit)
    return [
        Group(torch.stack([unit.tokens for unit in members]).to(device), grid, [unit.tile for unit in members])
        for grid, members in shapes.items()
    ]
