"""One view of a picture with the tokens that a method kept, or with the scores that it gave them, as an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from vlmprune.models.views import Box, View

Rectangle = tuple[int, int, int, int]  # left, top, right, bottom in pixels of a panel

KEPT, MERGED, INK = "#0072B2", "#D55E00", "#333333"  # Okabe and Ito's blue and vermilion
PADDING = (176, 176, 176)  # what the model sees around a picture
DIMMED, UNSEEN = 0.62, 0.9  # how far a dropped patch, and what is cropped away, fades to white
# Viridis at equal steps (van der Walt and Smith): its brightness rises evenly, so that it reads in grey too.
HEAT = ((68, 1, 84), (65, 68, 135), (42, 120, 142), (34, 168, 132), (122, 209, 81), (253, 231, 37))
HEAT_SHARE = 0.62  # of the colour over the picture
OUTLIERS = 0.02  # share of scores at either end that a colour scale does not stretch for
TILE_LINE = (255, 255, 255)


@dataclass(frozen=True)
class Frame:
    """What a panel shows of a picture: `area` of its pixels at `scale`."""

    area: Box
    scale: float

    @classmethod
    def of(cls, picture: Image.Image, view: View, width: int, height: int) -> Frame:
        """The picture and the view together, as large as fits into `width` x `height`."""
        whole, box = Box.whole(picture.size), view.box
        area = Box(
            min(whole.left, box.left),
            min(whole.top, box.top),
            max(whole.right, box.right),
            max(whole.bottom, box.bottom),
        )
        return cls(area, min(width / (area.right - area.left), height / (area.bottom - area.top)))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the panel."""
        right, bottom = self.on_panel(self.area)[2:]
        return max(1, right), max(1, bottom)

    def on_panel(self, box: Box) -> Rectangle:
        """A box of the picture in pixels of the panel."""
        left, top = (box.left - self.area.left) * self.scale, (box.top - self.area.top) * self.scale
        right, bottom = (box.right - self.area.left) * self.scale, (box.bottom - self.area.top) * self.scale
        return round(left), round(top), round(right), round(bottom)

    def show(self, picture: Image.Image) -> Image.Image:
        """The picture on the panel, padding around it."""
        left, top, right, bottom = self.on_panel(Box.whole(picture.size))
        panel = Image.new("RGB", self.size, PADDING)
        size = max(1, right - left), max(1, bottom - top)
        sampling = Image.Resampling.NEAREST if self.scale >= 4 else Image.Resampling.LANCZOS
        panel.paste(picture.resize(size, sampling), (left, top))
        return panel


def plain_panel(picture: Image.Image, view: View, width: int, height: int) -> Image.Image:
    """The picture as it is."""
    return Frame.of(picture, view, width, height).show(picture)


def kept_panel(
    picture: Image.Image, view: View, kept: np.ndarray, merged: np.ndarray, width: int, height: int
) -> Image.Image:
    """Kept patches in full colour and outlined, merged ones in another colour, all others dimmed.

    kept, merged: bool [V] over the visual slots of the prompt. What the model does not see of the picture is white.
    """
    frame = Frame.of(picture, view, width, height)
    colour = frame.show(picture)
    grey = colour.convert("L").convert("RGB")
    white = Image.new("RGB", colour.size, "white")
    panel = Image.blend(grey, white, UNSEEN)
    seen = frame.on_panel(view.box)
    panel.paste(Image.blend(grey, white, DIMMED).crop(seen), seen[:2])
    cells, stands_for = on_grid(kept, view), on_grid(merged, view)
    for row, column in np.argwhere(cells):
        patch = frame.on_panel(view.cell(row, column))
        panel.paste(colour.crop(patch), patch[:2])
    draw = ImageDraw.Draw(panel)
    draw_tiles(draw, frame, view)
    draw_borders(draw, frame, view, cells, KEPT)
    draw_borders(draw, frame, view, cells & stands_for, MERGED)
    return panel


def score_panel(picture: Image.Image, view: View, scores: np.ndarray, width: int, height: int) -> Image.Image:
    """A heat map over the picture. scores: float [V], nan where a slot has none; the scale is that of all slots."""
    frame = Frame.of(picture, view, width, height)
    grey = frame.show(picture).convert("L").convert("RGB")
    panel = Image.blend(grey, Image.new("RGB", grey.size, "white"), DIMMED)
    known = scores[np.isfinite(scores)]
    low, high = np.quantile(known, [OUTLIERS, 1 - OUTLIERS]) if len(known) else (0.0, 0.0)
    values = np.where(view.slots.numpy() >= 0, scores[view.slots.numpy()], np.nan)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            patch = frame.on_panel(view.cell(row, column))
            share = float(np.clip((value - low) / (high - low), 0, 1)) if high > low else 0.5
            cell = grey.crop(patch)
            panel.paste(Image.blend(cell, Image.new("RGB", cell.size, heat(share)), HEAT_SHARE), patch[:2])
    draw_tiles(ImageDraw.Draw(panel), frame, view)
    return panel


def heat(share: float) -> tuple[int, int, int]:
    """The colour of a score, 0 the lowest and 1 the highest."""
    places = np.linspace(0, 1, len(HEAT))
    red, green, blue = (round(float(np.interp(share, places, channel))) for channel in zip(*HEAT, strict=True))
    return red, green, blue


def on_grid(flags: np.ndarray, view: View) -> np.ndarray:
    """bool [V] -> bool [rows, columns]; False where a cell has no token."""
    slots = view.slots.numpy()
    return (slots >= 0) & flags[slots]


def draw_tiles(draw: Any, frame: Frame, view: View) -> None:
    """Thin lines between the tiles that a grid is stitched from."""
    rows, columns = view.tiles
    for row in range(1, rows):
        left, y, right, _ = frame.on_panel(view.box.part((row / rows, 1), (0, 1)))
        draw.line((left, y, right, y), fill=TILE_LINE, width=2)
    for column in range(1, columns):
        x, top, _, bottom = frame.on_panel(view.box.part((0, 1), (column / columns, 1)))
        draw.line((x, top, x, bottom), fill=TILE_LINE, width=2)


def draw_borders(draw: Any, frame: Frame, view: View, cells: np.ndarray, colour: str) -> None:
    """Lines around every region of marked cells, bool [rows, columns]."""
    around = np.pad(cells, 1)
    for row, column in np.argwhere(cells):
        left, top, right, bottom = frame.on_panel(view.cell(row, column))
        right, bottom = right - 1, bottom - 1
        above, below = around[row, column + 1], around[row + 2, column + 1]
        before, behind = around[row + 1, column], around[row + 1, column + 2]
        for neighbour, line in (
            (above, (left, top, right, top)),
            (below, (left, bottom, right, bottom)),
            (before, (left, top, left, bottom)),
            (behind, (right, top, right, bottom)),
        ):
            if not neighbour:
                draw.line(line, fill=colour, width=2 if colour == MERGED else 1)
