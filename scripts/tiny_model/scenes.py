"""Synthetic scenes: which objects an image holds and where they lie.

A scene is fully determined by (seed, split, index): one numpy Generator made from these three draws the
layout, the picture (`draw.py`) and the questions (`questions.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

IMAGE_SIZE = 144  # pixels, both sides
PATCH_SIZE = 12  # pixels, so 12 x 12 = 144 patches
GRID = IMAGE_SIZE // PATCH_SIZE

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLORS = ("red", "blue", "green", "yellow", "white", "purple")
WORDS = ("cat", "sun", "box", "key", "jam", "owl", "fig", "zip")

# Skewed on purpose: "popular" absent objects (as in POPE) only exist when some objects are common.
SHAPE_WEIGHTS = (0.26, 0.21, 0.17, 0.14, 0.12, 0.10)
COLOR_WEIGHTS = (0.26, 0.21, 0.17, 0.14, 0.12, 0.10)

SPLITS = ("train", "validation", "test")
DIGIT_SHARES = {"train": (0, 1300), "validation": (1300, 1500), "test": (1500, 1797)}

CARD_SIZE = (42, 42)  # width, height in pixels
SIGN_SIZE = (60, 30)
MARGIN = 4  # pixels of background between two objects


@dataclass(frozen=True)
class SceneObject:
    """One object. `kind` is a shape name, "card" or "sign"; `box` is (x0, y0, x1, y1) in pixels, x1/y1 exclusive.

    Shapes carry `color`, cards and signs carry `value` (the digit or the word shown); the other one is "".
    """

    kind: str
    color: str
    value: str
    box: tuple[int, int, int, int]

    @property
    def center(self) -> tuple[float, float]:
        """(x, y) in pixels."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2


@dataclass(frozen=True)
class Scene:
    """A layout: objects in raster order of their centres, plus the index of the handwritten digit (-1: no card)."""

    split: str
    index: int
    objects: tuple[SceneObject, ...]
    digit_instance: int

    @property
    def scene_id(self) -> str:
        return f"{self.split}-{self.index:05d}"

    def shapes(self) -> list[SceneObject]:
        return [o for o in self.objects if o.kind in SHAPES]


def scene_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """The one random stream of a scene."""
    return np.random.default_rng([seed, SPLITS.index(split), index])


@cache
def digit_bank() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scikit-learn's handwritten digits: images uint8 (1797, 8, 8) in 0..16, labels (1797,), and a fixed shuffle."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    return data.images.astype(np.uint8), data.target, order


def sample_scene(rng: np.random.Generator, split: str, index: int) -> Scene:
    """Draws a layout; a layout that does not fit is drawn again from the same stream."""
    while True:
        scene = _try_scene(rng, split, index)
        if scene is not None:
            return scene


def _try_scene(rng: np.random.Generator, split: str, index: int) -> Scene | None:
    has_card, has_sign = rng.random(2) < 0.5
    count = int(rng.choice((2, 3, 4), p=(0.25, 0.4, 0.35)))
    if has_card and has_sign:
        count = min(count, 3)  # keeps the share of content patches near one quarter at most

    wanted: list[tuple[str, str, str, tuple[int, int], int]] = []
    digit_instance = -1
    if has_sign:
        wanted.append(("sign", "", str(rng.choice(WORDS)), SIGN_SIZE, 6))
    if has_card:
        _, labels, order = digit_bank()
        digit_instance = int(order[rng.integers(*DIGIT_SHARES[split])])
        wanted.append(("card", "", str(labels[digit_instance]), CARD_SIZE, 6))
    for kind, color in zip(_draw_kinds(rng, count), _draw_colors(rng, count), strict=True):
        side = int(rng.integers(28, 37))
        wanted.append((kind, color, "", (side, side), 2))

    placed: list[SceneObject] = []
    for kind, color, value, size, step in wanted:
        box = _place(rng, size, step, [o.box for o in placed])
        if box is None:
            return None
        placed.append(SceneObject(kind, color, value, box))
    placed.sort(key=lambda o: (int(o.center[1] // 48), o.center[0]))
    return Scene(split, index, tuple(placed), digit_instance)


def _draw_kinds(rng: np.random.Generator, count: int) -> list[str]:
    kinds = [str(k) for k in rng.choice(SHAPES, size=count, replace=False, p=SHAPE_WEIGHTS)]
    if count >= 3 and rng.random() < 0.75:  # repeats give the counting questions answers above one
        kinds[1] = kinds[0]
        if count == 4 and rng.random() < 0.6:
            kinds[2] = kinds[0]
    return kinds


def _draw_colors(rng: np.random.Generator, count: int) -> list[str]:
    repeat = rng.random() < 0.25
    return [str(c) for c in rng.choice(COLORS, size=count, replace=repeat, p=COLOR_WEIGHTS)]


def _place(
    rng: np.random.Generator, size: tuple[int, int], step: int, taken: list[tuple[int, int, int, int]]
) -> tuple[int, int, int, int] | None:
    """A free box on a grid of `step` pixels, or None after 60 attempts."""
    width, height = size
    for _ in range(60):
        x = int(rng.integers(0, (IMAGE_SIZE - width) // step + 1)) * step
        y = int(rng.integers(0, (IMAGE_SIZE - height) // step + 1)) * step
        box = (x, y, x + width, y + height)
        if all(
            box[0] >= t[2] + MARGIN or t[0] >= box[2] + MARGIN or box[1] >= t[3] + MARGIN or t[1] >= box[3] + MARGIN
            for t in taken
        ):
            return box
    return None
