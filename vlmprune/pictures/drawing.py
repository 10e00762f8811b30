"""Drawings of a picture with its kept tokens or scores, and the pages that hold several of them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vlmprune.models.geometry import Box, View

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


PAGE_INK, FAINT = "#222222", "#6B6B6B"
MARGIN, GAP, WIDTH = 24, 10, 1270  # pixels; rows of panels and lines of text wrap at WIDTH
TEXT, SMALL = 14, 12
Panel = tuple[str, Image.Image]  # caption above, image
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass
class Block:
    """One method's part of a page. lines: text under the title. strips: lists of panels placed side by side."""

    title: str
    lines: list[str]
    strips: list[list[Panel]]


def draw_page(heading: str, lines: list[str], blocks: list[Block]) -> Image.Image:
    """Return a page with the heading, its lines, and the blocks below, side by side if they fit; its height grows."""
    parts = [_text(heading, TEXT + 3, PAGE_INK, bold=True), *(_text(line, SMALL, FAINT) for line in lines)]
    cards = _side_by_side([_card(block) for block in blocks], 2 * GAP)
    sheet = _stacked([_stacked(parts, GAP // 2), *cards], 2 * GAP)
    framed = Image.new("RGB", (sheet.width + 2 * MARGIN, sheet.height + 2 * MARGIN), "white")
    framed.paste(sheet, (MARGIN, MARGIN))
    return framed


def draw_panels(strips: list[list[Panel]]) -> Image.Image | None:
    """Return the panels alone, strip below strip, with the captions that they have; None if there are no panels."""
    panels = [[_captioned(*panel) if panel[0] else panel[1] for panel in strip] for strip in strips]
    rows = [row for strip in panels for row in _side_by_side(strip, GAP, align=0)]
    return _stacked(rows, GAP) if rows else None


def _card(block: Block) -> Image.Image:
    """Return one block: its text above, wrapped at the width of the panels below."""
    strips = [_side_by_side([_captioned(*panel) for panel in strip], GAP, align=0) for strip in block.strips]
    one_line = sum(len(rows) for rows in strips) == len(strips)  # then try all strips in one row
    rows = _side_by_side([rows[0] for rows in strips], GAP, align=0) if one_line else [row for s in strips for row in s]
    width = max((row.width for row in rows), default=WIDTH)  # a question without a picture has text alone
    words = [_text(block.title, TEXT, PAGE_INK, bold=True, width=width)]
    words += [_text(line, SMALL, PAGE_INK, width=width) for line in block.lines]
    return _stacked([*words, *rows], GAP // 2)


def _captioned(caption: str, panel: Image.Image) -> Image.Image:
    return _stacked([_text(caption or " ", SMALL - 1, FAINT, width=panel.width), panel], 2)


def _stacked(parts: list[Image.Image], gap: int) -> Image.Image:
    """Stack images vertically."""
    size = max(part.width for part in parts), sum(part.height + gap for part in parts) - gap
    whole = Image.new("RGB", size, "white")
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height + gap
    return whole


def _side_by_side(parts: list[Image.Image], gap: int, align: int = 1) -> list[Image.Image]:
    """Arrange images in rows of at most WIDTH pixels, with upper (0) or lower (1) edges aligned."""
    rows: list[list[Image.Image]] = []
    left = WIDTH + 1
    for part in parts:
        if left + part.width > WIDTH:
            rows.append([])
            left = 0
        rows[-1].append(part)
        left += part.width + gap
    return [_joined(row, gap, align) for row in rows]


def _joined(parts: list[Image.Image], gap: int, align: int) -> Image.Image:
    size = sum(part.width + gap for part in parts) - gap, max(part.height for part in parts)
    row = Image.new("RGB", size, "white")
    left = 0
    for part in parts:
        row.paste(part, (left, align * (row.height - part.height)))
        left += part.width + gap
    return row


def _text(text: str, size: int, colour: str, bold: bool = False, width: int = WIDTH) -> Image.Image:
    """Return one paragraph as an image, wrapped at `width` pixels."""
    letters = font(size, bold)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and letters.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    height = round(1.35 * size)
    longest = max(round(letters.getlength(line)) for line in lines)
    part = Image.new("RGB", (max(1, min(longest, 2 * WIDTH)), height * len(lines)), "white")
    draw = ImageDraw.Draw(part)
    for number, line in enumerate(lines):
        draw.text((0, number * height), line, font=letters, fill=colour)
    return part


@cache
def font(size: int, bold: bool = False) -> Font:
    """Load DejaVu Sans from matplotlib's files, without importing matplotlib, which is slow."""
    found = importlib.util.find_spec("matplotlib")
    assert found is not None and found.submodule_search_locations is not None, "a dependency of vlmprune"
    folder = Path(found.submodule_search_locations[0]) / "mpl-data/fonts/ttf"
    return ImageFont.truetype(folder / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"), size)
