"""Many scenes at once, as arrays: pictures for the tower, label tables for its losses, questions for the decoder."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing import Pool

import numpy as np

from scripts.tiny_model.draw import draw_scene
from scripts.tiny_model.questions import Question, ask
from scripts.tiny_model.scenes import (
    COLORS,
    GRID,
    IMAGE_SIZE,
    PATCH_SIZE,
    SHAPES,
    WORDS,
    Scene,
    SceneObject,
    sample_scene,
    scene_rng,
)

KINDS = (*SHAPES, "card", "sign")
MAX_OBJECTS = 6
COVERED = 0.4  # a patch belongs to an object whose box covers at least this share of it


@dataclass(frozen=True)
class Corpus:
    """Scenes of one split.

    images: uint8 (N, 144, 144, 3). owner: int8 (N, 144), object number per patch or -1 for background.
    table: int8 (N, 6, 4) with kind, color, digit, word per object, -1 where a column does not apply.
    boxes: float32 (N, 6, 4), (centre x, centre y, width, height) as shares of the image side.
    """

    scenes: list[Scene]
    questions: list[list[Question]]
    images: np.ndarray
    owner: np.ndarray
    table: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.scenes)


def make_corpus(seed: int, split: str, count: int, workers: int = 2) -> Corpus:
    """The first `count` scenes of a split; the result does not depend on `workers`."""
    jobs = [(seed, split, index) for index in range(count)]
    images = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    scenes, questions = [], []
    with Pool(workers) as pool:
        for index, (scene, picture, asked) in enumerate(pool.imap(_make_one, jobs, chunksize=256)):
            images[index] = picture
            scenes.append(scene)
            questions.append(asked)
    owner, table, boxes = label_arrays(scenes)
    return Corpus(scenes, questions, images, owner, table, boxes)


def _make_one(job: tuple[int, str, int]) -> tuple[Scene, np.ndarray, list[Question]]:
    seed, split, index = job
    rng = scene_rng(seed, split, index)
    scene = sample_scene(rng, split, index)
    picture = np.asarray(draw_scene(scene, rng))
    return scene, picture, ask(scene, rng)


def label_arrays(scenes: list[Scene]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`owner`, `table` and `boxes` as described at `Corpus`."""
    owner = np.full((len(scenes), GRID * GRID), -1, np.int8)
    table = np.full((len(scenes), MAX_OBJECTS, 4), -1, np.int8)
    boxes = np.zeros((len(scenes), MAX_OBJECTS, 4), np.float32)
    for n, scene in enumerate(scenes):
        for k, item in enumerate(scene.objects):
            owner[n, patch_cover(item).ravel() >= COVERED] = k
            table[n, k, 0] = KINDS.index(item.kind)
            table[n, k, 1] = COLORS.index(item.color) if item.color else -1
            table[n, k, 2] = int(item.value) if item.kind == "card" else -1
            table[n, k, 3] = WORDS.index(item.value) if item.kind == "sign" else -1
            x0, y0, x1, y1 = item.box
            boxes[n, k] = np.array((*item.center, x1 - x0, y1 - y0)) / IMAGE_SIZE
    return owner, table, boxes


def patch_cover(item: SceneObject) -> np.ndarray:
    """Share of every patch that lies in the object's box, float (12, 12), rows first."""
    x0, y0, x1, y1 = item.box
    starts = np.arange(GRID) * PATCH_SIZE
    across = np.clip(np.minimum(starts + PATCH_SIZE, x1) - np.maximum(starts, x0), 0, None)
    down = np.clip(np.minimum(starts + PATCH_SIZE, y1) - np.maximum(starts, y0), 0, None)
    return np.outer(down, across) / PATCH_SIZE**2
