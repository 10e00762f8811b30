"""Geometry of pictures: where their tokens lie, which tiles they are cut into, how they are enlarged.

Coordinates are mapped back through an image processor's steps (resize, crop, pad, cut into tiles). Each family returns
the grids of its inputs in `Preprocessor.views`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape, unpad_image

from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.media import reserve_pixels

Pixels = tuple[int, int]  # width, height of a picture


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the original picture, which it may exceed (padding) or cover in part (cropping)."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def whole(cls, size: Pixels) -> Box:
        """Return the rectangle of a whole picture."""
        return cls(0, 0, size[0], size[1])

    def shifted(self, right: float, down: float) -> Box:
        """Return the rectangle moved right and down."""
        return Box(self.left + right, self.top + down, self.right + right, self.bottom + down)

    def part(self, rows: tuple[float, float], columns: tuple[float, float]) -> Box:
        """Return the part between two heights and two widths, each a fraction of the whole."""
        width, height = self.right - self.left, self.bottom - self.top
        return Box(
            self.left + columns[0] * width,
            self.top + rows[0] * height,
            self.left + columns[1] * width,
            self.top + rows[1] * height,
        )


@dataclass(frozen=True)
class View:
    """One grid of visual tokens over a picture, or over a part of it.

    picture: index among the medium's pictures. box: area of the grid. slots: int64 [rows, columns], the visual slot of
    each cell, counted through the prompt (see `engine.prompt_state.Record.kept`), -1 where a cell has no token. title:
    "" if it is a medium's only view. tiles: rows and columns of the tiles that the grid is stitched from.
    """

    picture: int
    box: Box
    slots: Tensor
    title: str = ""
    tiles: tuple[int, int] = (1, 1)

    def after(self, pictures: int, slots: int) -> View:
        """Return the view with its picture and slots counted after so many others of the prompt."""
        moved = torch.where(self.slots < 0, self.slots, self.slots + slots)
        return replace(self, picture=self.picture + pictures, slots=moved)

    def cell(self, row: int, column: int) -> Box:
        """Return the area of one cell."""
        rows, columns = self.slots.shape
        return self.box.part((row / rows, (row + 1) / rows), (column / columns, (column + 1) / columns))


def grid_of(rows: int, columns: int, first: int = 0) -> Tensor:
    """Return int64 [rows, columns], slots in raster order from `first` on."""
    return torch.arange(first, first + rows * columns).view(rows, columns)


def squared(size: Pixels, pads: bool) -> tuple[Pixels, tuple[int, int]]:
    """Return the size after padding to a square, if it `pads`, and the pixels left of and above the picture in it."""
    if not pads:
        return size, (0, 0)
    side = max(size)
    return (side, side), ((side - size[0]) // 2, (side - size[1]) // 2)


def crop_box(size: Pixels, processor: Any) -> Box:
    """Return the part of a picture of `size` that an image processor's resize and centre crop leave."""
    width, height = size
    target = processor.size
    if not processor.do_resize:
        resized = size
    elif target.get("shortest_edge"):
        short = target["shortest_edge"]
        resized = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    else:
        resized = (target["width"], target["height"])
    if not getattr(processor, "do_center_crop", False):
        return Box.whole(size)
    crop = processor.crop_size["width"], processor.crop_size["height"]
    left, top = (crop_start(whole, part) for whole, part in zip(resized, crop, strict=True))
    x, y = width / resized[0], height / resized[1]
    return Box(left * x, top * y, (left + crop[0]) * x, (top + crop[1]) * y)


def crop_start(whole: int, part: int) -> int:
    """Return the first pixel of a centre crop; negative if the picture is smaller and padded (as in center_crop)."""
    return (whole - part) // 2 if whole >= part else -math.ceil((part - whole) / 2)


def letterbox_box(size: Pixels, target: Pixels) -> Box:
    """Return the box of a canvas of `target` pixels on which a picture is centred, as large as fits (AnyRes)."""
    (width, height), (across, down) = size, target
    if across / width < down / height:
        resized = across, min(math.ceil(height * across / width), down)
    else:
        resized = min(math.ceil(width * down / height), across), down
    x, y = width / resized[0], height / resized[1]
    left, top = (across - resized[0]) // 2 * x, (down - resized[1]) // 2 * y
    return Box(-left, -top, across * x - left, down * y - top)


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

    def unpadded_patches(self) -> list[tuple[Tensor, Size]]:
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


def tile_geometry(image_size: Size, pinpoints: list[list[int]], tile_size: int, side: int) -> Anyres:
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


MOST_PIXELS = 2 * 89_478_485  # where PIL refuses to decode a picture


def check_enlarged_size(size: Pixels, made: int) -> None:
    """Raise BadSample if a picture of `size` would be enlarged to more than MOST_PIXELS; made: its pixels then.

    Otherwise count them with `reserve_pixels`, so that large pictures are enlarged one at a time.
    """
    if made > MOST_PIXELS:
        width, height = size
        raise BadSample(
            f"its picture of {width} x {height} pixels would be made one of {made:,}; at most {MOST_PIXELS:,}"
        )
    reserve_pixels(made)


def check_crop(image: Image.Image, processor: Any) -> None:
    """Raise BadSample if the processor would make a thin picture too large when it resizes the short side."""
    if processor.do_resize and (short := dict(processor.size).get("shortest_edge")):
        check_enlarged_size(image.size, short**2 * max(image.size) // min(image.size))


def pad_to_square(image: Image.Image, mean: list[float]) -> Image.Image:
    """Centre the image on a square of the colour `mean`, each of 0 to 1 (LLaVA's expand2square). Raises BadSample."""
    width, height = image.size
    side = max(width, height)
    check_enlarged_size(image.size, side**2)
    square = Image.new("RGB", (side, side), tuple(int(channel * 255) for channel in mean))
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square
