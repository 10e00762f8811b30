"""Every view says where its tokens lie: where a picture changes, the slot that changes most must be drawn there."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from tests.models.hub import load_saved
from tests.toy_models import inputs_of
from vlmprune.models.geometry import View
from vlmprune.models.loading import LoadedModel
from vlmprune.models.preprocessing import Preprocessor

CPU = torch.device("cpu")
SLOW = pytest.mark.slow
SIZES = [(150, 90), pytest.param((70, 160), marks=SLOW), pytest.param((112, 112), marks=SLOW)]  # width, height
OUTPUTS = ("out_proj", "projection_layer", "proj")  # of attention, as the families name it
PLACES = [(0.4, 0.45), (0.62, 0.7)]  # of the square's centre; inside every centre crop


def loaded_from(folder, **settings) -> LoadedModel:
    """The family's model without attention in its vision encoder: what a slot holds is what its pixels are."""
    loaded = load_saved(folder, **settings)
    for index in range(loaded.adapter.tower.depth):
        for attention in loaded.adapter.vision_attentions(index):
            output = next(getattr(attention, name) for name in OUTPUTS if hasattr(attention, name))
            torch.nn.init.zeros_(output.weight)
    return loaded


def embeddings(loaded: LoadedModel, pictures: list[Image.Image], kind: str) -> torch.Tensor:
    """Embeddings that the decoder is given at the visual slots, [V, D]."""
    prepare = loaded.preprocessor
    inputs = prepare.batch(["What is it?"], [prepare.media(pictures, kind)], CPU, torch.float32)
    with torch.inference_mode(), inputs_of(loaded.adapter.language_model.layers[0]) as seen:
        loaded.model(**inputs)
    return seen[0][0][loaded.adapter.visual_mask(inputs["input_ids"])[0]]


def with_square(picture: Image.Image, x: float, y: float, side: float) -> Image.Image:
    changed = picture.copy()
    changed.paste((255, 40, 0), tuple(round(edge) for edge in (x - side / 2, y - side / 2, x + side / 2, y + side / 2)))
    return changed


def views_of(prepare: Preprocessor, pictures: list[Image.Image], kind: str) -> tuple[list[View], int]:
    return prepare.prompt_views("What is it?", prepare.media(pictures, kind), [picture.size for picture in pictures])


def check(loaded: LoadedModel, pictures: list[Image.Image], changed: int, kind: str) -> None:
    """A square in one of the pictures changes the slots that every view of it draws there most."""
    before = embeddings(loaded, pictures, kind)
    views, slots = views_of(loaded.preprocessor, pictures, kind)
    assert slots == len(before)
    shown = torch.cat([view.slots[view.slots >= 0] for view in views])
    assert len(shown.unique()) == len(shown) and shown.max() < slots
    width, height = pictures[changed].size
    for across, down in PLACES:
        x, y = across * width, down * height
        own = [view for view in views if view.picture == changed]
        assert own
        for view in own:
            cell = view.cell(0, 0)
            side = min(cell.right - cell.left, cell.bottom - cell.top)
            there = list(pictures)
            there[changed] = with_square(pictures[changed], x, y, side)
            difference = (embeddings(loaded, there, kind) - before).norm(dim=1)
            changes = torch.where(view.slots < 0, 0, difference[view.slots])
            assert changes.max() > 0
            for row, column in (changes > 0.3 * changes.max()).nonzero().tolist():
                box = view.cell(row, column)
                # The square may lie on the border of two cells, each of which it then half covers.
                assert abs((box.left + box.right) / 2 - x) <= 1.01 * (cell.right - cell.left), (view.title, row, column)
                assert abs((box.top + box.bottom) / 2 - y) <= 1.01 * (cell.bottom - cell.top), (view.title, row, column)


def grey(size: tuple[int, int]) -> Image.Image:
    return Image.effect_noise(size, 30).convert("RGB")


@pytest.mark.parametrize("size", SIZES)
def test_a_picture(folder, size):
    check(loaded_from(folder), [grey(size)], 0, "image")


def test_a_padded_picture(folder):
    check(loaded_from(folder, image="pad"), [grey((150, 90))], 0, "image")


def test_the_second_of_several_pictures(folder):
    check(loaded_from(folder), [grey((90, 120)), grey((130, 80))], 1, "image")


def test_a_frame_of_a_video(folder):
    check(loaded_from(folder), [grey((100, 70)) for _ in range(4)], 2, "video")
