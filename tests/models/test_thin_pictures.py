"""Pictures of one or three lines, and so thin that a processor refuses them, on every model family."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from tests.models.hub import load_saved
from vlmprune.benchmarks.base import BadSample
from vlmprune.models.geometry import MOST_PIXELS

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture(scope="module")
def loaded(folder):
    return load_saved(folder)


def channels(loaded, medium):
    """float [3]: each colour's mean over the pixels that the encoder is given."""
    (pixels,) = (tensor for name, tensor in medium.tensors.items() if name.startswith("pixel_values"))
    if loaded.model.config.model_type.startswith("qwen"):  # patches: [patches, 3 x steps x 14 x 14]
        return pixels.view(len(pixels), 3, -1).mean((0, 2))
    return pixels.flatten(0, -4).mean((0, 2, 3))


@pytest.mark.parametrize("size", [(40, 1), (40, 3), (3, 40), (1, 40), (3, 3), (1, 1), (2, 3), (3, 1)])
def test_colours_are_never_taken_for_lines(loaded, size):
    for kind, count in (("image", 1), ("video", 2)):
        given = {}
        for number, (name, colour) in enumerate(COLOURS.items()):
            media = loaded.preprocessor.media([Image.new("RGB", size, colour)] * count, kind)
            given[name] = channels(loaded, media[0])
            mean = torch.stack(list(given.values())).mean(0)
            assert (given[name] - mean)[number] >= 0, name
        for number, name in enumerate(COLOURS):
            assert all(given[name][number] > given[other][number] for other in COLOURS if other != name), (kind, name)


@pytest.mark.parametrize("size", [(40, 1), (40, 3), (1, 40), (1, 1)])
def test_every_slot_of_a_thin_picture_is_shown(loaded, size):
    """LLaVA-OneVision leaves nothing of the tiles of a picture so thin."""
    prepare = loaded.preprocessor
    media = prepare.media([Image.new("RGB", size)], "image")
    views, slots = prepare.prompt_views("What is the", media, [size])
    inputs = prepare.batch(["What is the"], [media], loaded.device, torch.float32)
    assert slots == int(loaded.adapter.visual_mask(inputs["input_ids"]).sum())
    assert all(view.slots.numel() and view.slots.max() < slots for view in views)


def test_what_the_processor_refuses_is_a_bad_sample(loaded):
    """Qwen's refuses more than 200 to 1; of LLaVA's the short side is enlarged first, which could need gigabytes."""
    family = loaded.model.config.model_type
    for size in ((1000, 3), (3, 1000)):
        for kind in ("image", "video"):
            pictures = [Image.new("RGB", size)] * 2
            if family.startswith("qwen"):
                said = rf"takes no picture of {size[0]} x {size[1]} pixels \(absolute aspect ratio must be smaller"
                with pytest.raises(BadSample, match=said) as raised:
                    loaded.preprocessor.media(pictures, kind)
                assert isinstance(raised.value.__cause__, ValueError)
            else:
                assert loaded.preprocessor.media(pictures, kind)
    huge = (MOST_PIXELS // 56**2 + 1, 1)
    if family in ("llava", "video_llava"):
        with pytest.raises(BadSample, match=rf"picture of {huge[0]} x 1 pixels would be made one of 178,\d+,\d+"):
            loaded.preprocessor.media([Image.new("RGB", huge)], "image")


def test_a_text_that_is_none_is_a_bad_sample(loaded):
    media = loaded.preprocessor.media([Image.new("RGB", (40, 40))], "image")
    with pytest.raises(BadSample, match="its prompt cannot be tokenized"):
        loaded.preprocessor.tokenize(["half a \ud83d"], [media])
