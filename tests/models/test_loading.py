"""A checkpoint folder in the hub's format goes through the same path as the embedded model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from tests.cli.conftest import vlmprune  # noqa: F401  (a fixture)
from vlmprune.config import ModelConfig
from vlmprune.errors import UserError
from vlmprune.models.base import families
from vlmprune.models.inputs import pad_to_square
from vlmprune.models.llava import Inputs
from vlmprune.models.loading import find_checkpoint, load
from vlmprune.models.prompts import VICUNA_V1
from vlmprune.tiny import CHECKPOINT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA of other sizes, random, float16, saved by save_pretrained with processor and tokenizer."""
    path = tmp_path_factory.mktemp("hub") / "llava-random"
    processor = AutoProcessor.from_pretrained(CHECKPOINT)
    config = LlavaForConditionalGeneration.from_pretrained(CHECKPOINT).config
    config.vision_config.num_hidden_layers = 4
    config.text_config.num_hidden_layers = 3
    torch.manual_seed(1)
    LlavaForConditionalGeneration._from_config(config).half().save_pretrained(path)
    processor.save_pretrained(path)
    return path


def loaded(path: Path):
    config = ModelConfig("path", str(path))
    return load(find_checkpoint(config), config, torch.float32, torch.device("cpu"))


def test_a_run_on_a_checkpoint_folder(vlmprune, folder):  # noqa: F811
    done = vlmprune(
        "run", "model=path", f"model.path={folder}", "method=fastv", "method.k=1", "ratio=0.5", "limit=8",
        "latency_samples=2", "logger=none",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "72 of 144 kept, 96 averaged" in done.stdout  # one layer sees 144, two see 72


def test_inputs_equal_the_processors_own():
    model = loaded(CHECKPOINT)
    image = Image.effect_noise((200, 150), 60).convert("RGB")
    question = "What color is the star?"
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    processor = AutoProcessor.from_pretrained(CHECKPOINT)
    processor.image_processor = model.preprocessor.parts.image_processor
    expected = processor(
        images=image, text=processor.apply_chat_template(chat, add_generation_prompt=True), return_tensors="pt"
    )
    ours = model.preprocessor.batch([question], [[model.preprocessor.image(image)]], model.device, torch.float32)
    for name in ("input_ids", "attention_mask", "pixel_values"):
        assert torch.equal(ours[name], expected[name]), name


def test_vicuna_prompt_and_padding():
    model = loaded(CHECKPOINT)
    preprocessor = Inputs(model.preprocessor.parts, model.adapter, ModelConfig("x", prompt="vicuna_v1", image="pad"))
    image = preprocessor.image(Image.new("RGB", (40, 20), "white"))
    text, _ = preprocessor.text("Why?", [image])
    assert text.startswith("A chat between a curious user") and text.endswith("\nWhy? ASSISTANT:")
    assert text.count(preprocessor.parts.image_token) == 144
    assert VICUNA_V1.count("{") == 1
    wide = pad_to_square(Image.new("RGB", (40, 20), "white"), [0.0, 0.5, 1.0])
    assert wide.size == (40, 40)
    assert wide.getpixel((0, 0)) == (0, 127, 255) and wide.getpixel((20, 20)) == (255, 255, 255)


def test_identity_follows_the_weights(folder, tmp_path):
    import shutil

    first = find_checkpoint(ModelConfig("path", str(folder))).identity
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert find_checkpoint(ModelConfig("path", str(copy))).identity == first
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert find_checkpoint(ModelConfig("path", str(copy))).identity != first


class TestRefusals:
    def test_no_folder(self):
        with pytest.raises(UserError, match="no such folder"):
            find_checkpoint(ModelConfig("path", "/nowhere"))

    def test_an_unsupported_family(self, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
        with pytest.raises(UserError, match="'llama' is not supported; supported: .*llava"):
            find_checkpoint(ModelConfig("path", str(tmp_path)))

    def test_not_a_checkpoint(self, tmp_path):
        with pytest.raises(UserError, match="cannot be loaded"):
            find_checkpoint(ModelConfig("path", str(tmp_path)))

    def test_broken_weights(self, folder, tmp_path, vlmprune):  # noqa: F811
        import shutil

        broken = tmp_path / "broken"
        shutil.copytree(folder, broken)
        (broken / "model.safetensors").write_bytes(b"not safetensors")
        done = vlmprune("run", "model=path", f"model.path={broken}", "ratio=0.5", "limit=4", "logger=none")
        assert done.returncode == 2, done.stderr
        assert "cannot be loaded" in done.stderr and "Traceback" not in done.stderr

    def test_missing_weights(self, folder, tmp_path):
        from safetensors.torch import load_file, save_file

        save_file(
            {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if ".0." not in name},
            tmp_path / "model.safetensors",
            {"format": "pt"},
        )
        for file in folder.glob("*.json"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
        with pytest.raises(UserError, match="weights are missing"):
            loaded(tmp_path)


def test_a_template_that_writes_its_own_bos_gets_no_second_one():
    model = loaded(CHECKPOINT)
    parts = model.preprocessor.parts
    image = [[model.preprocessor.image(Image.new("RGB", (144, 144)))]]
    plain = model.preprocessor.batch(["Why?"], image, model.device, torch.float32)["input_ids"]
    own = replace(parts, chat_template="{{ '<s>' }}" + parts.chat_template)
    preprocessor = Inputs(own, model.adapter, ModelConfig("tiny"))
    assert torch.equal(preprocessor.batch(["Why?"], image, model.device, torch.float32)["input_ids"], plain)


def test_families_are_the_files():
    assert "llava" in families() and not {"base", "inputs", "loading"} & set(families())
