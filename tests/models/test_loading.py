"""A checkpoint folder in the hub's format goes through the same path as the embedded model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration

from tests.cli.conftest import vlmprune  # noqa: F401  (a fixture)
from vlmprune.config.registry import build_method, find_choices, read_choice
from vlmprune.config.settings import ModelConfig, compose_run
from vlmprune.engine.session import Session
from vlmprune.errors import UserError
from vlmprune.evaluation.evaluate import load_models
from vlmprune.evaluation.plan import Resources, make_plan
from vlmprune.models import checkpoint, loading
from vlmprune.models.checkpoint import find_checkpoint, published_config
from vlmprune.models.loading import load
from vlmprune.tiny import CHECKPOINT

CPU = torch.device("cpu")


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


def loaded(config: ModelConfig):
    return load(find_checkpoint(config), config, torch.float32, CPU)


def test_weights_that_changed_since_the_plan_are_not_loaded_for_it(folder, tmp_path):
    """A sweep plans its jobs hours before the last of them loads its model."""
    path = shutil.copytree(folder, tmp_path / "copy")
    settings = ["model=path", f"model.path={path}", "method=none", "limit=1", "logger=none"]
    plan, resources = make_plan(compose_run([*settings, "latency_samples=0", f"outputs={tmp_path}/out"])), Resources()
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(UserError, match=r"model\.path=.*copy: its files changed after the run was planned"):
        load_models(plan, resources)
    assert resources.model is None


@pytest.mark.slow
def test_a_run_on_a_checkpoint_folder(vlmprune, folder, tmp_path):  # noqa: F811
    done = vlmprune(
        "run", "model=path", f"model.path={folder}", "method=fastv", "method.k=1", "ratio=0.5", "limit=8",
        "latency_samples=2", "logger=none",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "72 of 144 kept, 96 averaged" in done.stdout  # one layer sees 144, two see 72
    (environment,) = tmp_path.rglob("environment.json")
    (recorded,) = json.loads(environment.read_text())["environments"]
    assert recorded["model"]["path"] == str(folder) and recorded["model"]["image"] == "processor"
    assert {"torch", "transformers"} <= recorded["versions"].keys()


def test_identity_follows_the_weights(folder, tmp_path):
    first = find_checkpoint(ModelConfig("path", str(folder))).identity
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert find_checkpoint(ModelConfig("path", str(copy))).identity == first
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert find_checkpoint(ModelConfig("path", str(copy))).identity != first


def test_code_beside_a_checkpoint_is_not_run(folder, tmp_path):
    """A config.json that points at code: transformers' own classes are used, the code is left alone."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    data = json.loads((copy / "config.json").read_text())
    modules = {"AutoConfig": "evil.Config", "AutoModelForImageTextToText": "evil.Model"}
    (copy / "config.json").write_text(json.dumps(data | {"auto_map": modules}))
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    model = loaded(ModelConfig("path", str(copy)))
    assert type(model.model) is LlavaForConditionalGeneration
    assert not (tmp_path / "ran").exists()


def test_settings_of_the_checkpoint_are_settings_of_the_run(folder, tmp_path, monkeypatch):
    """A setting that can change an answer is in the fingerprint; where weights lie and on how many devices is not."""

    def directory(*overrides: str) -> str:
        given = ["model=path", f"model.path={folder}", "method=none", "logger=none", f"outputs={tmp_path}"]
        return make_plan(compose_run([*given, *overrides])).directory.path.name

    plain = directory()
    monkeypatch.setattr(loading, "find_spec", lambda name: name)  # as if accelerate were installed
    assert directory("model.device_map=auto") == plain
    for other in ("model.attention=eager", "model.prompt=vicuna_v1", "model.image=pad", "model.dtype=bfloat16"):
        assert directory(other) != plain, other


def test_the_last_model_is_kept_until_a_setting_changes(folder):
    settings, resources = ["model=path", f"model.path={folder}", "method=none", "device=cpu"], Resources()
    plan, eager = (make_plan(compose_run([*settings, *more]), resources) for more in ([], ["model.attention=eager"]))
    first, _ = load_models(plan, resources)
    assert load_models(plan, resources)[0] is first
    other, _ = load_models(eager, resources)
    assert other is not first and other.model.config._attn_implementation == "eager"
    assert load_models(plan, resources)[0] is not first, "two models were in memory"


class TestRandomWeights:
    def test_a_folder_needs_no_weights(self, folder, tmp_path):
        for file in folder.iterdir():
            if file.suffix != ".safetensors":
                shutil.copy(file, tmp_path)
        config = ModelConfig("path", str(tmp_path), random_weights=True)
        first = loaded(config)
        assert first.preprocessor.processors.image_token == "<image>"
        again = loaded(replace(config, dtype="float32"))
        assert again is not first
        for weight, same in zip(first.model.parameters(), again.model.parameters(), strict=True):
            assert torch.equal(weight, same)

    @pytest.mark.parametrize("name", find_choices("architecture"))
    def test_every_published_model_has_an_architecture(self, name):
        """Its size is the published one, from its config alone; no memory is taken."""
        shipped = read_choice("model", name)
        config = published_config(name)
        assert config.model_type == shipped["info"]["family"]
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(config)
        parameters = sum(weight.numel() for weight in model.parameters())
        assert shipped["info"]["parameters"] == f"{parameters / 1e9:.2f} B"

    def test_its_identity_is_that_of_the_architecture(self):
        config = ModelConfig("llava-1.5-7b", "llava-hf/x", random_weights=True)
        first = find_checkpoint(config).identity
        assert find_checkpoint(config).identity == first
        assert find_checkpoint(replace(config, name="llava-1.5-13b")).identity != first

    def test_models_and_architectures_are_the_same_names(self):
        assert set(find_choices("architecture")) == set(find_choices("model")) - {"tiny", "path"}

    def test_it_answers_without_a_tokenizer(self, monkeypatch):
        def shallow(name: str):
            config = published_config(name)
            config.text_config.num_hidden_layers = config.vision_config.num_hidden_layers = 2
            config.text_config.hidden_size = config.text_config.intermediate_size = 64
            config.text_config.num_attention_heads = config.text_config.num_key_value_heads = 4
            config.text_config.head_dim = 16
            return config

        monkeypatch.setattr(checkpoint, "published_config", shallow)
        model = loaded(ModelConfig("llava-1.5-7b", "llava-hf/x", random_weights=True, prompt="vicuna_v1"))
        image = Image.effect_noise((40, 30), 60).convert("RGB")
        media = [model.preprocessor.media([image], "image")]
        inputs = model.preprocessor.batch(["How many dogs are there?"], media, CPU, torch.float32)
        assert inputs["pixel_values"].shape == (1, 3, 336, 336)
        with Session(model.adapter, build_method("cls", ratio=0.95)) as session:
            model.model.generate(**inputs, max_new_tokens=1)
        assert session.record.visual_counts[0] == [29]
