"""Layout of panels and text on one white page: a heading, then a block of lines and panels per method."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

INK, FAINT = "#222222", "#6B6B6B"
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


def page(heading: str, lines: list[str], blocks: list[Block]) -> Image.Image:
    """Return a page with the heading, its lines, and the blocks below, side by side if they fit; its height grows."""
    parts = [_text(heading, TEXT + 3, INK, bold=True), *(_text(line, SMALL, FAINT) for line in lines)]
    cards = _side_by_side([_card(block) for block in blocks], 2 * GAP)
    sheet = _stacked([_stacked(parts, GAP // 2), *cards], 2 * GAP)
    framed = Image.new("RGB", (sheet.width + 2 * MARGIN, sheet.height + 2 * MARGIN), "white")
    framed.paste(sheet, (MARGIN, MARGIN))
    return framed


def _card(block: Block) -> Image.Image:
    """Return one block: its text above, wrapped at the width of the panels below."""
    strips = [_side_by_side([_captioned(*panel) for panel in strip], GAP, align=0) for strip in block.strips]
    one_line = sum(len(rows) for rows in strips) == len(strips)  # then try all strips in one row
    rows = _side_by_side([rows[0] for rows in strips], GAP, align=0) if one_line else [row for s in strips for row in s]
    width = max((row.width for row in rows), default=WIDTH)  # a question without a picture has text alone
    words = [_text(block.title, TEXT, INK, bold=True, width=width)]
    words += [_text(line, SMALL, INK, width=width) for line in block.lines]
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
