"""Prompts and pixels: what the checkpoint's own processor gives, and what LLaVA's published evaluation gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from vlmprune.config.settings import ModelConfig
from vlmprune.errors import UserError
from vlmprune.models.checkpoint import find_checkpoint
from vlmprune.models.families.llava import Inputs
from vlmprune.models.geometry import pad_to_square
from vlmprune.models.loading import load
from vlmprune.models.preprocessing import Media, Prompts
from vlmprune.tiny import CHECKPOINT

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny():
    config = ModelConfig("tiny")
    return load(find_checkpoint(config), config, torch.float32, CPU)


@pytest.fixture
def image():
    return Image.effect_noise((200, 150), 60).convert("RGB")


def restyled(tiny, **settings) -> Inputs:
    return Inputs(tiny.preprocessor.processors, tiny.adapter, ModelConfig("tiny", **settings))


def test_inputs_equal_the_processors_own(tiny, image):
    question = "What color is the star?"
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    processor = AutoProcessor.from_pretrained(CHECKPOINT)
    processor.image_processor = tiny.preprocessor.processors.image_processor
    expected = processor(
        images=image, text=processor.apply_chat_template(chat, add_generation_prompt=True), return_tensors="pt"
    )
    ours = tiny.preprocessor.batch([question], [[tiny.preprocessor.image(image)]], CPU, torch.float32)
    for name in ("input_ids", "attention_mask", "pixel_values"):
        assert torch.equal(ours[name], expected[name]), name


@pytest.mark.parametrize(
    ("style", "who"),
    [("vicuna_v1", "user"), ("llava_v1", "human")],
)
def test_published_prompts(tiny, image, style, who):
    preprocessor = restyled(tiny, prompt=style)
    text, _ = preprocessor.text("Why?", [preprocessor.image(image)])
    assert text.replace(preprocessor.processors.image_token * 144, "[144]") == (
        f"A chat between a curious {who} and an artificial intelligence assistant. The assistant gives helpful, "
        f"detailed, and polite answers to the {who}'s questions. USER: [144]\nWhy? ASSISTANT:"
    )


def test_padding_comes_before_the_processor(tiny):
    wide = Image.new("RGB", (40, 20), "white")
    square = pad_to_square(wide, [0.0, 0.5, 1.0])
    assert square.size == (40, 40)
    assert square.getpixel((0, 0)) == (0, 127, 255) and square.getpixel((20, 20)) == (255, 255, 255)
    mean = tiny.preprocessor.processors.image_processor.image_mean
    padded = restyled(tiny, image="pad").image(wide).tensors["pixel_values"]
    assert torch.equal(padded, tiny.preprocessor.image(pad_to_square(wide, mean)).tensors["pixel_values"])
    assert not torch.equal(padded, tiny.preprocessor.image(wide).tensors["pixel_values"])


def test_a_template_that_writes_its_own_bos_gets_no_second_one(tiny, image):
    parts = tiny.preprocessor.processors
    given = [[tiny.preprocessor.image(image)]]
    plain = tiny.preprocessor.batch(["Why?"], given, CPU, torch.float32)["input_ids"]
    own = Inputs(replace(parts, chat_template="{{ '<s>' }}" + parts.chat_template), tiny.adapter, ModelConfig("tiny"))
    assert torch.equal(own.batch(["Why?"], given, CPU, torch.float32)["input_ids"], plain)


def test_a_batch_is_left_padded_and_in_the_order_of_the_prompts(tiny):
    token = tiny.preprocessor.processors.image_token
    media = [Media("image", {"pixel_values": torch.full((1, 3, 144, 144), float(k))}, token * 144) for k in range(3)]
    questions = ["Why?", "Is <image 2> like <image 1>?"]
    batch = tiny.preprocessor.batch(questions, [media[:1], media[1:]], CPU, torch.float64)
    assert batch["pixel_values"][:, 0, 0, 0].tolist() == [0, 2, 1]
    assert batch["pixel_values"].dtype == torch.float64 and batch["input_ids"].dtype == torch.int64
    assert (batch["attention_mask"][0] == 0).sum() > 0 and batch["attention_mask"][0].diff().min() >= 0
    assert batch["attention_mask"][1].all()


def test_a_media_token_in_the_question_is_no_image(tiny, image):
    parts = tiny.preprocessor.processors
    prompts = Prompts(parts.tokenizer, parts.chat_template, {"image": "<image>", "video": "<video>"}, "vicuna_v1")
    pieces, order = prompts.text("What does <video> mean?", ["image"])
    assert len(pieces) == 2 and order == [0]
    assert "What does  mean?" in pieces[1]


def test_a_template_without_images_is_refused(tiny, image):
    blind = replace(tiny.preprocessor.processors, chat_template="{{ messages[0]['content'][-1]['text'] }}")
    preprocessor = Inputs(blind, tiny.adapter, ModelConfig("tiny"))
    with pytest.raises(UserError, match="chat template does not place the prompt's image"):
        preprocessor.text("Why?", [preprocessor.image(image)])


def test_a_video_is_frames_where_the_family_takes_none(tiny, image):
    media = tiny.preprocessor.media([image] * 3, "video")
    assert [each.kind for each in media] == ["image"] * 3
    assert sum(each.pictures for each in media) == 3
    with pytest.raises(TypeError, match="takes no video"):
        tiny.preprocessor.video([image])
