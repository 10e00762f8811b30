"""Layout of the visual tokens of an encoding (images -> tiles -> grid -> slots), and the groups ranked together.

An encoding of several images gives tokens, indexed consecutively tile after tile (a tile is an image, a crop or a
frame), each tile in raster order. A unit is the set of tokens that one selection ranks: the tokens of a tile that reach
the prompt, or those of a whole image. Units of the same shape form a group, which a method sees as one batch of images.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Unit:
    """Tokens that are ranked together. grid: their rows and columns. tile: index of the first tile among theirs."""

    tokens: Tensor  # int64 [n], on the CPU
    grid: tuple[int, int]
    tile: int


@dataclass(frozen=True)
class Group:
    """Units of one shape. index: int64 [units, n], their tokens. tiles: index of the first tile of each unit."""

    index: Tensor
    grid: tuple[int, int]
    tiles: list[int]

    def only(self, rows: list[int]) -> Group:
        """Return the group of the units `rows`."""
        if len(rows) == len(self.tiles):
            return self
        return Group(self.index[rows], self.grid, [self.tiles[row] for row in rows])


@dataclass(frozen=True)
class Layout:
    """Layout of one encoding.

    pixels: the pixels of each tile. slots: number of placeholders in the prompts that its features fill, newlines
    included. fixed_slots: number of slots that pruning never drops. tile_tokens: tokens of a tile. tile_rows,
    first_row: rows of a tile at the point of selection, and the first row that is a token ([CLS] may come before it).
    images: index of the image of each tile; None where each tile is one image. order: int64 [slots], the token at each
    slot, -1 for no token; None where slots are the tokens in order. stitched: True if an image's tiles after its first
    are stitched into one picture, whose rows of slots run through several tiles.
    """

    groups: list[Group]
    pixels: list[Tensor]
    slots: int
    tile_tokens: int
    tile_rows: int
    first_row: int = 0
    fixed_slots: int = 0
    images: list[int] | None = None
    order: Tensor | None = None
    stitched: bool = False

    def rows(self, tokens: Tensor) -> Tensor:
        """Return the index of each token among all rows of all tiles."""
        if self.tile_rows == self.tile_tokens:
            return tokens
        return tokens // self.tile_tokens * self.tile_rows + self.first_row + tokens % self.tile_tokens

    def slots_of_rows(self) -> Tensor:
        """Return int64 [rows], the slot in the prompts that each row fills; 0 for rows that fill none."""
        assert self.order is not None
        filled = self.order >= 0
        slots = self.order.new_zeros(len(self.pixels) * self.tile_rows)
        slots[self.rows(self.order[filled])] = filled.nonzero().squeeze(1)
        return slots

    def slots_of(self, tokens: Tensor) -> Tensor:
        """Return the slot in the prompts that each of `tokens`, which all fill one, fills."""
        return tokens if self.order is None else self.slots_of_rows().to(tokens.device)[self.rows(tokens)]

    def slots_by_image(self) -> list[int]:
        """Return the number of slots of each image; slots without a token count for the image before them."""
        owners = torch.tensor(self.images or list(range(len(self.pixels))))
        if self.order is None:
            return (torch.bincount(owners) * self.tile_tokens).tolist()
        tiles = self.order.cpu().clamp(min=0) // self.tile_tokens
        return torch.bincount(owners[tiles].where(self.order.cpu() >= 0, 0).cummax(dim=0).values).tolist()

    def image_maximum(self, values: Tensor) -> Tensor:
        """Return, for each token, the largest of `values` [tokens] among the ranked tokens of its image."""
        owners = torch.tensor(self.images or list(range(len(self.pixels)))).to(values.device, non_blocking=True)
        owner = owners.repeat_interleave(self.tile_tokens)
        ranked = torch.cat([group.index.flatten() for group in self.groups])
        largest = values.new_full((len(self.pixels),), -torch.inf)  # at least as many tiles as images
        return largest.scatter_reduce(0, owner[ranked], values[ranked], "amax")[owner]

    def groups_by_count(self, shares: Callable[[list[int]], list[int]]) -> Iterator[tuple[Group, int]]:
        """Yield each group, divided by the number of tokens to keep per unit, with that number.

        shares: number of tokens of each unit of one image -> number of tokens to keep of each.
        """
        owners = self.images or list(range(len(self.pixels)))
        images: dict[int, list[tuple[int, int]]] = defaultdict(list)  # (tile, group) of each unit
        for number, group in enumerate(self.groups):
            for tile in group.tiles:
                images[owners[tile]].append((tile, number))
        kept: dict[tuple[int, int], int] = {}
        for units in map(sorted, images.values()):  # by tile, independent of the order of groups in this batch
            sizes = [self.groups[number].index.shape[1] for _, number in units]
            kept |= zip(units, shares(sizes), strict=True)
        for number, group in enumerate(self.groups):
            counts = [kept[tile, number] for tile in group.tiles]
            for count in dict.fromkeys(counts):
                yield group.only([row for row, own in enumerate(counts) if own == count]), count


def tile_layout(pixels: Tensor, grid: tuple[int, int], extra_rows: int = 0) -> Layout:
    """Return the layout of tiles [U, 3, H, W] of which every token reaches the prompt, with each tile a unit.

    extra_rows: rows, and slots, before a tile's tokens that are no tokens ([CLS]).
    """
    tiles, n = len(pixels), grid[0] * grid[1]
    index = torch.arange(tiles * n, device=pixels.device).view(tiles, n)
    group = Group(index, grid, list(range(tiles)))
    order = torch.cat([index.new_full((tiles, extra_rows), -1), index], dim=1).flatten() if extra_rows else None
    return Layout([group], list(pixels), tiles * (n + extra_rows), n, n + extra_rows, extra_rows, order=order)


def join_tiles(units: list[Unit]) -> Unit:
    """Join all tiles of an image into one unit, whose grid is a single row."""
    tokens = torch.cat([unit.tokens for unit in units])
    return Unit(tokens, (1, len(tokens)), units[0].tile)


def group_by_grid(units: list[Unit], device: torch.device) -> list[Group]:
    """Group units of the same grid, in the order of the first unit of each; empty units are left out."""
    shapes: dict[tuple[int, int], list[Unit]] = defaultdict(list)
    for unit in units:
        if len(unit.tokens):
            shapes[unit.grid].append(unit)
    return [
        Group(torch.stack([unit.tokens for unit in members]).to(device), grid, [unit.tile for unit in members])
        for grid, members in shapes.items()
    ]
