"""LLaVA-NeXT's inputs equal those of transformers' processor; packing=fastervlm gives those of FasterVLM's code."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from transformers import LlavaNextProcessor

from tests.models.hub import save
from vlmprune.config.registry import build_method
from vlmprune.config.settings import ModelConfig
from vlmprune.engine.session import Session
from vlmprune.models.checkpoint import find_checkpoint
from vlmprune.models.loading import load

CPU = torch.device("cpu")
SIZES = [(100, 60), (35, 90), (112, 112), (120, 80)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("hub") / "llava_next", "llava_next")


def loaded(folder, **options):
    config = ModelConfig("path", str(folder), options=options)
    return load(find_checkpoint(config), config, torch.float32, CPU)


def pictures():
    return [Image.effect_noise(size, 60).convert("RGB") for size in SIZES]


def test_a_batch_equals_the_processors_own(folder):
    model, images = loaded(folder), pictures()
    parts = model.preprocessor.processors
    processor = LlavaNextProcessor(
        parts.image_processor, parts.tokenizer, 14, "default", parts.chat_template, "<image>", 1
    )
    texts = ["What is the star?", "red", "How many"]
    shown = [images[:1], images[1:2], images[2:]]
    chats = [
        [{"role": "user", "content": [*[{"type": "image"}] * len(own), {"type": "text", "text": text}]}]
        for text, own in zip(texts, shown, strict=True)
    ]
    prompts = [processor.apply_chat_template(chat, add_generation_prompt=True) for chat in chats]
    expected = processor(images=images, text=prompts, padding=True, padding_side="left", return_tensors="pt")
    media = [model.preprocessor.media(own, "image") for own in shown]
    ours = model.preprocessor.batch(texts, media, CPU, torch.float32)
    assert set(ours) == {"input_ids", "attention_mask", "pixel_values", "image_sizes"}
    for name, value in ours.items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize(("size", "tiles"), [((112, 112), 5), ((112, 60), 3), ((90, 112), 5), ((50, 112), 3)])
def test_fastervlm_packing_has_whole_tiles_alone(folder, size, tiles):
    model = loaded(folder, packing="fastervlm")
    media = model.preprocessor.media([Image.effect_noise(size, 60).convert("RGB")], "image")
    assert media[0].tensors["pixel_values"].shape[1] == tiles
    inputs = model.preprocessor.batch(["What"], [media], CPU, torch.float32)
    assert model.adapter.visual_mask(inputs["input_ids"]).sum() == 16 * tiles
    for ratio, kept in [(0, 16), (0.75, 4), (0.9, 2)]:
        with Session(model.adapter, build_method("cls", ratio=ratio)) as session:
            model.model.generate(**inputs, max_new_tokens=1)
        assert session.record.visual_counts[0] == [kept * tiles]


@pytest.mark.parametrize(("newline", "stay"), [("drop", False), ("keep", True)])
def test_newlines_follow_the_setting(folder, newline, stay):
    model = loaded(folder, newline=newline)
    inputs = model.preprocessor.batch(
        ["What"], [model.preprocessor.media(pictures()[2:3], "image")], CPU, torch.float32
    )
    with Session(model.adapter, build_method("cls", ratio=0.75)) as session:
        model.model.generate(**inputs, max_new_tokens=1)
    assert session.record.visual_counts[0] == [5 * 4 + 8 * stay]
