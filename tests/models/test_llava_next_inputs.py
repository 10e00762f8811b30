"""LLaVA-NeXT's settings of its inputs: packing=fastervlm gives those of FasterVLM's code, and newlines may stay."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from tests.models.hub import load_saved
from vlmprune.config.registry import build_method
from vlmprune.engine.session import Session

CPU = torch.device("cpu")


@pytest.mark.parametrize(("size", "tiles"), [((112, 112), 5), ((112, 60), 3), ((90, 112), 5), ((50, 112), 3)])
def test_fastervlm_packing_has_whole_tiles_alone(hub, size, tiles):
    model = load_saved(hub("llava_next"), options={"packing": "fastervlm"})
    media = model.preprocessor.media([Image.effect_noise(size, 60).convert("RGB")], "image")
    assert media[0].tensors["pixel_values"].shape[1] == tiles
    inputs = model.preprocessor.batch(["What"], [media], CPU, torch.float32)
    assert model.adapter.visual_mask(inputs["input_ids"]).sum() == 16 * tiles
    for ratio, kept in [(0, 16), (0.75, 4), (0.9, 2)]:
        with Session(model.adapter, build_method("cls", ratio=ratio)) as session:
            model.model.generate(**inputs, max_new_tokens=1)
        assert session.record.visual_counts[0] == [kept * tiles]


@pytest.mark.parametrize(("newline", "stay"), [("drop", False), ("keep", True)])
def test_newlines_follow_the_setting(hub, newline, stay):
    model = load_saved(hub("llava_next"), options={"newline": newline})
    media = model.preprocessor.media([Image.effect_noise((112, 112), 60).convert("RGB")], "image")
    inputs = model.preprocessor.batch(["What"], [media], CPU, torch.float32)
    with Session(model.adapter, build_method("cls", ratio=0.75)) as session:
        model.model.generate(**inputs, max_new_tokens=1)
    assert session.record.visual_counts[0] == [5 * 4 + 8 * stay]
