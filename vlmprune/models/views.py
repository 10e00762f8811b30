"""Where a picture's visual tokens lie in it: grids of cells over rectangles of the original pixels.

What an image processor does to a picture (resize, crop, pad, cut into tiles) is undone here in coordinates alone. Each
family says which grids its inputs consist of (`Preprocessor.views`).
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
    """A rectangle in pixels of the original picture. It may reach beyond it (padding) or leave some out (cropping)."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def whole(cls, size: Pixels) -> Box:
        """All of a picture."""
        return cls(0, 0, size[0], size[1])

    def shifted(self, right: float, down: float) -> Box:
        """The same size elsewhere."""
        return Box(self.left + right, self.top + down, self.right + right, self.bottom + down)

    def part(self, rows: tuple[float, float], columns: tuple[float, float]) -> Box:
        """The part between two heights and two widths, each a fraction of the whole."""
        width, height = self.right - self.left, self.bottom - self.top
        return Box(
            self.left + columns[0] * width,
            self.top + rows[0] * height,
            self.left + columns[1] * width,
            self.top + rows[1] * height,
        )


@dataclass(frozen=True)
class View:
    """A picture, or a part of it, as the model sees it.

    picture: which of the medium's pictures. box: what the grid covers. slots: int64 [rows, columns], the visual slot of
    each cell, counted through the prompt (see `pruning.prompt.Record.kept`), -1 where a cell has no token. title: "" if
    it is a medium's only view. tiles: rows and columns of the tiles that the grid is stitched from.
    """

    picture: int
    box: Box
    slots: Tensor
    title: str = ""
    tiles: tuple[int, int] = (1, 1)

    def after(self, pictures: int, slots: int) -> View:
        """The same behind so many other pictures and slots of a prompt."""
        moved = torch.where(self.slots < 0, self.slots, self.slots + slots)
        return replace(self, picture=self.picture + pictures, slots=moved)

    def cell(self, row: int, column: int) -> Box:
        """What one token covers."""
        rows, columns = self.slots.shape
        return self.box.part((row / rows, (row + 1) / rows), (column / columns, (column + 1) / columns))


def grid_of(rows: int, columns: int, first: int = 0) -> Tensor:
    """int64 [rows, columns]: slots in raster order from `first` on."""
    return torch.arange(first, first + rows * columns).view(rows, columns)


def squared(size: Pixels, pads: bool) -> tuple[Pixels, tuple[int, int]]:
    """Size after padding to a square, where that is done, and the pixels left of and above the picture in it."""
    if not pads:
        return size, (0, 0)
    side = max(size)
    return (side, side), ((side - size[0]) // 2, (side - size[1]) // 2)


def cropped(size: Pixels, processor: Any) -> Box:
    """What is left of a picture of `size` after an image processor's resize and centre crop."""
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
    """First pixel of a centre crop; negative where the picture is smaller and padded (transformers' center_crop)."""
    return (whole - part) // 2 if whole >= part else -math.ceil((part - whole) / 2)


def letterboxed(size: Pixels, target: Pixels) -> Box:
    """What a canvas of `target` pixels shows, with the picture as large as fits and centred on it (AnyRes)."""
    (width, height), (across, down) = size, target
    if across / width < down / height:
        resized = across, min(math.ceil(height * across / width), down)
    else:
        resized = min(math.ceil(width * down / height), across), down
    x, y = width / resized[0], height / resized[1]
    left, top = (across - resized[0]) // 2 * x, (down - resized[1]) // 2 * y
    return Box(-left, -top, across * x - left, down * y - top)
