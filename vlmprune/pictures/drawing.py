"""Images of one view of a picture that show a method's kept tokens or scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from vlmprune.models.views import Box, View

Rectangle = tuple[int, int, int, int]  # left, top, right, bottom in pixels of a panel

KEPT, MERGED, INK = "#0072B2", "#D55E00", "#333333"  # Okabe and Ito's blue and vermilion
PADDING = (176, 176, 176)  # colour of the padding around a picture
DIMMED, UNSEEN = 0.62, 0.9  # share of white over a dropped patch, and over the part that is cropped away
# Viridis at equal steps (van der Walt and Smith): its brightness rises evenly, so that it is readable in grey.
HEAT = ((68, 1, 84), (65, 68, 135), (42, 120, 142), (34, 168, 132), (122, 209, 81), (253, 231, 37))
HEAT_SHARE = 0.62  # of the colour over the picture
OUTLIERS = 0.02  # share of scores at either end that the colour scale clips
TILE_LINE = (255, 255, 255)


@dataclass(frozen=True)
class Frame:
    """The part of a picture that a panel shows: `area` in pixels of the picture, at `scale`."""

    area: Box
    scale: float

    @classmethod
    def of(cls, picture: Image.Image, view: View, width: int, height: int) -> Frame:
        """Return the frame that contains both picture and view, as large as fits into `width` x `height`."""
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
        """Convert a box of the picture into pixels of the panel."""
        left, top = (box.left - self.area.left) * self.scale, (box.top - self.area.top) * self.scale
        right, bottom = (box.right - self.area.left) * self.scale, (box.bottom - self.area.top) * self.scale
        return round(left), round(top), round(right), round(bottom)

    def show(self, picture: Image.Image) -> Image.Image:
        """Return the picture on the panel, with padding around it."""
        left, top, right, bottom = self.on_panel(Box.whole(picture.size))
        panel = Image.new("RGB", self.size, PADDING)
        size = max(1, right - left), max(1, bottom - top)
        sampling = Image.Resampling.NEAREST if self.scale >= 4 else Image.Resampling.LANCZOS
        panel.paste(picture.resize(size, sampling), (left, top))
        return panel


def plain_panel(picture: Image.Image, view: View, width: int, height: int) -> Image.Image:
    """Return the unchanged picture as a panel."""
    return Frame.of(picture, view, width, height).show(picture)


def kept_panel(
    picture: Image.Image, view: View, kept: np.ndarray, merged: np.ndarray, width: int, height: int
) -> Image.Image:
    """Return a panel with kept patches in full colour and outlined, merged ones in another colour, all others dimmed.

    kept, merged: bool [V] over the visual slots of the prompt. Parts that the model does not see are nearly white.
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
    """Return a heat map over the picture. scores: float [V], nan for no score; all views share the colour scale."""
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
    """Return the RGB colour of a score from 0 (lowest) to 1 (highest)."""
    places = np.linspace(0, 1, len(HEAT))
    red, green, blue = (round(float(np.interp(share, places, channel))) for channel in zip(*HEAT, strict=True))
    return red, green, blue


def on_grid(flags: np.ndarray, view: View) -> np.ndarray:
    """Map flags of the visual slots, bool [V], to the view's grid, bool [rows, columns]; False for no token."""
    slots = view.slots.numpy()
    return (slots >= 0) & flags[slots]


def draw_tiles(draw: Any, frame: Frame, view: View) -> None:
    """Draw thin lines between the tiles of a view."""
    rows, columns = view.tiles
    for row in range(1, rows):
        left, y, right, _ = frame.on_panel(view.box.part((row / rows, 1), (0, 1)))
        draw.line((left, y, right, y), fill=TILE_LINE, width=2)
    for column in range(1, columns):
        x, top, _, bottom = frame.on_panel(view.box.part((0, 1), (column / columns, 1)))
        draw.line((x, top, x, bottom), fill=TILE_LINE, width=2)


def draw_borders(draw: Any, frame: Frame, view: View, cells: np.ndarray, colour: str) -> None:
    """Draw lines around every region of marked cells, bool [rows, columns]."""
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
