"""Where several images stand in a prompt."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from vlmprune.config.settings import ModelConfig
from vlmprune.models.checkpoint import find_checkpoint
from vlmprune.models.loading import load
from vlmprune.models.preprocessing import place_images


@pytest.mark.parametrize(
    ("question", "images", "order", "pieces"),
    [
        ("Why?", 1, [0], ["Why?"]),
        ("Why?", 3, [0, 1, 2], ["Why?"]),
        ("<image 1> Why?", 1, [0], [None, " Why?"]),
        ("Is <image 2> like <image 1>?", 2, [1, 0], ["Is ", None, " like ", None, "?"]),
        ("See <image 2>.", 3, [0, 2, 1], ["See ", None, "."]),
        ("<image 1> or <image 1>", 1, [0], [None, " or ", "image 1"]),
        ("<image 3>?", 1, [0], ["image 3", "?"]),
        ("<image>\nWhy <image>?", 2, [0, 1], [None, "\nWhy ", None, "?"]),
        ("<image> <image>", 1, [0], [None, " ", "image 2"]),
    ],
)
def test_place_images(question, images, order, pieces):
    assert place_images(question, images) == (order, pieces)


@pytest.fixture(scope="module")
def tiny():
    config = ModelConfig("tiny")
    return load(find_checkpoint(config), config, torch.float32, torch.device("cpu"))


@pytest.mark.parametrize("style", ["chat_template", "vicuna_v1"])
def test_every_image_has_its_tokens_and_pixels_in_order(tiny, style):
    given = tiny.preprocessor
    preprocessor = type(given)(given.processors, tiny.adapter, ModelConfig("tiny", prompt=style))
    pictures = [Image.new("RGB", (144, 144), (100 * k, 0, 0)) for k in range(3)]
    media = preprocessor.media(pictures, "image")
    questions = ["Is <image 2> like <image 1>?", "Why?"]
    batch = preprocessor.batch(questions, [media[:2], media[2:]], torch.device("cpu"), torch.float32)
    assert (batch["input_ids"] == tiny.model.config.image_token_id).sum(1).tolist() == [288, 144]
    reds = batch["pixel_values"][:, 0, 0, 0]
    assert reds[1] < reds[0] < reds[2]  # the second picture stands first
    tokens = media[0].text
    assert f"Is {tokens} like {tokens}?" in preprocessor.text(questions[0], media[:2])[0]
    if style == "vicuna_v1":
        assert f"USER: {tokens}\n{tokens}\nWhy?" in preprocessor.text("Why?", media[:2])[0]
    template = preprocessor.prompts.template("image")
    assert template.replace("<image>", tokens).replace("{prompt}", "Why?") == preprocessor.text("Why?", media[:1])[0]
