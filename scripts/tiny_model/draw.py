"""Paints a scene: a soft coloured background with mild noise and clutter, then the objects."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scripts.tiny_model.scenes import IMAGE_SIZE, Scene, SceneObject, digit_bank

PALETTE = {
    "red": (220, 40, 40),
    "blue": (40, 80, 225),
    "green": (35, 165, 60),
    "yellow": (240, 215, 40),
    "white": (245, 245, 245),
    "purple": (150, 45, 190),
}
SUPERSAMPLE = 4
NOISE_STEP = 8  # grey levels; coarse steps keep a PNG small
FONT_SIZE = 27  # pixels


def draw_scene(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """RGB image of IMAGE_SIZE x IMAGE_SIZE pixels."""
    image = _background(rng)
    for item in scene.objects:
        if item.kind == "card":
            _paste_card(image, item, scene.digit_instance, rng)
        elif item.kind == "sign":
            _paste_sign(image, item, rng)
        else:
            _paste_shape(image, item, rng)
    return image


def _background(rng: np.random.Generator) -> Image.Image:
    base = rng.integers(85, 150, size=3)
    coarse = np.clip(base + rng.integers(-28, 29, size=(4, 4, 3)), 0, 255).astype(np.uint8)
    image = Image.fromarray(coarse).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 9))):
        x, y, dx, dy = (int(v) for v in (*rng.integers(0, IMAGE_SIZE, 2), *rng.integers(-30, 31, 2)))
        tint = tuple(int(v) for v in np.clip(np.array(image.getpixel((x, y))) + rng.integers(-14, 15), 0, 255))
        if rng.random() < 0.5:
            pen.line((x, y, x + dx, y + dy), fill=tint, width=int(rng.integers(1, 4)))
        else:
            pen.ellipse((x, y, x + abs(dx) // 2 + 2, y + abs(dy) // 2 + 2), fill=tint)
    noise = rng.integers(-5, 6, size=(IMAGE_SIZE, IMAGE_SIZE, 1))
    pixels = np.rint((np.asarray(image, dtype=np.int16) + noise) / NOISE_STEP) * NOISE_STEP
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _paste_shape(image: Image.Image, item: SceneObject, rng: np.random.Generator) -> None:
    side = item.box[2] - item.box[0]
    color = tuple(int(v) for v in np.clip(np.array(PALETTE[item.color]) + rng.integers(-12, 13, 3), 0, 255))
    image.paste(color, item.box[:2], _shape_mask(item.kind, side))


@cache
def _shape_mask(kind: str, side: int) -> Image.Image:
    """Anti-aliased mask (mode L) of side x side pixels."""
    big = side * SUPERSAMPLE
    mask = Image.new("L", (big, big), 0)
    pen = ImageDraw.Draw(mask)
    last = big - 1
    if kind == "circle":
        pen.ellipse((0, 0, last, last), fill=255)
    elif kind == "ring":
        rim = big * 0.24
        pen.ellipse((0, 0, last, last), fill=255)
        pen.ellipse((rim, rim, last - rim, last - rim), fill=0)
    elif kind == "square":
        inset = big * 0.06
        pen.rectangle((inset, inset, last - inset, last - inset), fill=255)
    elif kind == "triangle":
        pen.polygon(((last / 2, 0), (last, last), (0, last)), fill=255)
    elif kind == "cross":
        pen.rectangle((big * 0.34, 0, big * 0.66, last), fill=255)
        pen.rectangle((0, big * 0.34, last, big * 0.66), fill=255)
    elif kind == "star":
        turns = [(-math.pi / 2 + i * math.pi / 5, big / 2 if i % 2 == 0 else big * 0.21) for i in range(10)]
        pen.polygon([(big / 2 + r * math.cos(a), big / 2 + r * math.sin(a)) for a, r in turns], fill=255)
    else:
        raise ValueError(f"unknown shape {kind!r}")
    return mask.resize((side, side), Image.Resampling.BOX)


def _paste_card(image: Image.Image, item: SceneObject, instance: int, rng: np.random.Generator) -> None:
    """A cream card with a dark frame and one real handwritten digit."""
    x0, y0, x1, y1 = item.box
    pen = ImageDraw.Draw(image)
    paper = tuple(int(v) for v in np.array((238, 228, 200)) + rng.integers(-10, 11, 3))
    pen.rectangle((x0, y0, x1 - 1, y1 - 1), fill=paper, outline=(70, 50, 40), width=2)
    ink = Image.fromarray(np.minimum(digit_bank()[0][instance].astype(np.int16) * 17, 255).astype(np.uint8))
    side = x1 - x0 - 6
    image.paste((25, 25, 45), (x0 + 3, y0 + 3), ink.resize((side, side), Image.Resampling.BICUBIC))


def _paste_sign(image: Image.Image, item: SceneObject, rng: np.random.Generator) -> None:
    """A dark board with a light word in Pillow's bundled font."""
    x0, y0, x1, y1 = item.box
    pen = ImageDraw.Draw(image)
    board = tuple(int(v) for v in np.array((35, 38, 55)) + rng.integers(-10, 11, 3))
    pen.rectangle((x0, y0, x1 - 1, y1 - 1), fill=board, outline=(225, 225, 225), width=1)
    pen.text(((x0 + x1) / 2, (y0 + y1) / 2), item.value.upper(), fill=(250, 250, 240), font=_font(), anchor="mm")


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=FONT_SIZE)
