"""Areas of a picture that its visual tokens cover: grids of cells over rectangles of the original pixels.

Coordinates are mapped back through an image processor's steps (resize, crop, pad, cut into tiles). Each family returns
the grids of its inputs in `Preprocessor.views`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

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
    each cell, counted through the prompt (see `pruning.prompt.Record.kept`), -1 where a cell has no token. title: "" if
    it is a medium's only view. tiles: rows and columns of the tiles that the grid is stitched from.
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


def cropped(size: Pixels, processor: Any) -> Box:
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


def letterboxed(size: Pixels, target: Pixels) -> Box:
    """Return the box of a canvas of `target` pixels on which a picture is centred, as large as fits (AnyRes)."""
    (width, height), (across, down) = size, target
    if across / width < down / height:
        resized = across, min(math.ceil(height * across / width), down)
    else:
        resized = min(math.ceil(width * down / height), across), down
    x, y = width / resized[0], height / resized[1]
    left, top = (across - resized[0]) // 2 * x, (down - resized[1]) // 2 * y
    return Box(-left, -top, across * x - left, down * y - top)
