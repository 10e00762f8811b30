"""A model that cannot work is refused before weights load: one line that names the value and what to do."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from safetensors.torch import load_file, save_file

from tests.cli.conftest import vlmprune  # noqa: F401  (a fixture)
from vlmprune.config.settings import ModelConfig
from vlmprune.errors import UserError
from vlmprune.models import NEWEST, OLDEST, check_transformers, loading
from vlmprune.models.checkpoint import find_checkpoint, load_error
from vlmprune.models.loading import check_hardware, load, quantizer
from vlmprune.tiny import CHECKPOINT

CPU, GPU = torch.device("cpu"), torch.device("cuda")
PUBLISHED = "llava-hf/llava-1.5-7b-hf"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embedded checkpoint, to be damaged."""
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))


def edit(file: Path, **changes: object) -> None:
    data = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in (data | changes).items() if value is not None}))


def find(folder: Path, **settings):
    return find_checkpoint(ModelConfig("path", str(folder), **settings))


def loaded(folder: Path, **settings):
    return load(find(folder), ModelConfig("path", str(folder), **settings), torch.float32, CPU)


class TestFinding:
    def test_no_folder(self, folder):
        with pytest.raises(UserError, match=r"no such folder$"):
            find(Path("/nowhere"))
        with pytest.raises(UserError, match=r"no such folder \(did you mean 'checkpoint'\?\)"):
            find(folder.with_name("chekpoint"))

    @pytest.mark.parametrize(
        ("config", "line"),
        [
            (None, "cannot be loaded"),
            ("{", "cannot be loaded"),
            ("{}", "no config.json with a model_type"),
            ('{"model_type": "llama"}', "'llama' is a text-only model.*supported: .*llava"),
            (
                '{"model_type": "idefics3", "vision_config": {}}',
                "family 'idefics3' is not supported; supported: .*llava, ",
            ),
            (
                '{"model_type": "internvl_chat", "vision_config": {}, "auto_map": {"AutoConfig": "evil.Config"}}',
                "code of its own is never run: try its '-hf' conversion",
            ),
        ],
    )
    def test_no_checkpoint_of_a_known_family(self, tmp_path, config, line):
        if config is not None:
            (tmp_path / "config.json").write_text(config)
        with pytest.raises(UserError, match=line):
            find(tmp_path)

    @pytest.mark.parametrize(
        ("changes", "line"),
        [
            (  # the format of the original code
                {"vision_config": None, "mm_vision_tower": "openai/clip-vit-large-patch14-336"},
                "no vision_config; .* needs its '-hf' conversion",
            ),
            (
                {"text_config": {"model_type": "llama", "hidden_size": "wide"}},
                "config.json: text_config.hidden_size=wide: ",
            ),
        ],
    )
    def test_fields_that_no_config_has(self, folder, changes, line):
        edit(folder / "config.json", **changes)
        with pytest.raises(UserError, match=line):
            find(folder)

    def test_a_revision_of_a_folder(self, folder):
        with pytest.raises(UserError, match=r"model.revision=main: .* is a folder"):
            find(folder, revision="main")

    def test_random_weights_of_an_unknown_model(self):
        with pytest.raises(UserError, match=r"no architecture of model=mine is shipped; known: internvl3-1b, "):
            find_checkpoint(ModelConfig("mine", "me/mine", random_weights=True))


class TestTheHub:
    """The hub's answers, as transformers passes them on."""

    def error(self, cause: type[Exception]) -> OSError:
        error = OSError("several\nlines")
        error.__cause__ = cause.__new__(cause)
        return error

    def test_offline(self):
        with pytest.raises(UserError, match="hub cannot be reached; where there is a network, run 'hf download"):
            find_checkpoint(ModelConfig("x", PUBLISHED))
        with pytest.raises(UserError, match=r"hub cannot be reached \(vlmprune list models: "):
            find_checkpoint(ModelConfig("x", "gpt2"))
        with pytest.raises(UserError, match=rf"did you mean '{PUBLISHED}'"):
            find_checkpoint(ModelConfig("x", "llava-hf/llava-1.5-7b"))

    def test_gated(self):
        line = load_error(PUBLISHED, self.error(GatedRepoError), None)
        assert line.endswith(f"accept its terms at https://huggingface.co/{PUBLISHED} and run 'hf auth login'")

    def test_a_wrong_name(self):
        line = load_error("Qwen/Qwen2.5-VL-3B-Instruc", self.error(RepositoryNotFoundError), None)
        assert "not on the hub (did you mean 'Qwen/Qwen2.5-VL-3B-Instruct'?)" in line

    def test_a_wrong_revision(self):
        line = load_error(PUBLISHED, self.error(RevisionNotFoundError), "v9")
        assert line == f"model.revision=v9: {PUBLISHED} has no such branch, tag or commit"

    def test_a_file_that_is_not_there(self):
        line = load_error("me/mine", OSError("me/mine does not appear to have a file named model.safetensors."), None)
        assert line.endswith("cannot be loaded (me/mine does not appear to have a file named model.safetensors.)")


class TestFiles:
    @pytest.mark.parametrize("damage", [lambda data: b"not safetensors", lambda data: data[:-1000]])
    def test_another_file_and_a_download_that_was_cut_off(self, folder, damage):
        file = folder / "model.safetensors"
        file.write_bytes(damage(file.read_bytes()))
        with pytest.raises(UserError, match=r"cannot be loaded \(model.safetensors: "):
            find(folder)

    def test_pickled_weights(self, folder):
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        with pytest.raises(UserError, match=r"no .safetensors file: pytorch_model.bin is not read"):
            find(folder)

    def test_a_shard_that_is_missing(self, folder):
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
        weights = dict.fromkeys(load_file(CHECKPOINT / "model.safetensors"), "model-00002-of-00002.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))
        with pytest.raises(UserError, match=r"model-00002-of-00002.safetensors is missing"):
            find(folder)

    def test_a_damaged_index(self, folder):
        (folder / "model.safetensors.index.json").write_text("{")
        with pytest.raises(UserError, match=r"model.safetensors.index.json is damaged"):
            find(folder)

    def test_missing_weights(self, folder):
        weights = load_file(folder / "model.safetensors")
        few = {name: weight for name, weight in weights.items() if ".0." not in name}
        save_file(few, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(UserError, match="weights are missing"):
            loaded(folder)

    def test_other_shapes(self, folder):
        data = json.loads((folder / "config.json").read_text())
        edit(folder / "config.json", text_config=data["text_config"] | {"intermediate_size": 100})
        with pytest.raises(UserError, match=r"other shapes than its config.json says"):
            loaded(folder)

    @pytest.mark.parametrize(
        ("file", "what"), [("processor_config.json", "image processor"), ("tokenizer.json", "tokenizer")]
    )
    def test_a_processor_that_is_missing(self, folder, file, what):
        (folder / file).unlink()
        with pytest.raises(UserError, match=f"its {what} cannot be loaded"):
            loaded(folder)

    def test_no_chat_template(self, folder):
        (folder / "chat_template.jinja").unlink()
        with pytest.raises(UserError, match=r"no chat template; use model.prompt=vicuna_v1"):
            loaded(folder)
        assert loaded(folder, prompt="vicuna_v1").preprocessor.prompts.style == "vicuna_v1"


class TestHardware:
    def check(self, device=CPU, dtype=torch.float32, **settings):
        model = ModelConfig("tiny", **settings)
        check_hardware(model, find_checkpoint(model), dtype, device)

    def test_flash_attention(self, monkeypatch):
        monkeypatch.setattr(loading, "find_spec", lambda name: None)
        for device, dtype in [(CPU, torch.float16), (GPU, torch.float32)]:
            with pytest.raises(UserError, match="needs a CUDA device and float16 or bfloat16"):
                self.check(device, dtype, attention="flash_attention_2")
        with pytest.raises(UserError, match="flash_attn is not installed; pip install flash-attn"):
            self.check(GPU, torch.float16, attention="flash_attention_2")

    @pytest.mark.parametrize("quantization", ["4bit", "8bit"])
    def test_quantization(self, monkeypatch, quantization):
        with pytest.raises(UserError, match="random weights are not quantized"):
            self.check(quantization=quantization, random_weights=True)
        with pytest.raises(UserError, match=r"needs a CUDA device; use model.quantization=null"):
            self.check(quantization=quantization)
        monkeypatch.setattr(loading, "find_spec", lambda name: None)
        with pytest.raises(UserError, match="bitsandbytes is not installed; pip install bitsandbytes accelerate"):
            self.check(GPU, torch.float16, quantization=quantization)
        made = quantizer(quantization, torch.bfloat16)
        assert made.load_in_4bit == (quantization == "4bit") and made.load_in_8bit == (quantization == "8bit")

    def test_device_map(self, monkeypatch):
        with pytest.raises(UserError, match="random weights go to one device"):
            self.check(device_map="auto", random_weights=True)
        monkeypatch.setattr(loading, "find_spec", lambda name: None)
        with pytest.raises(UserError, match="accelerate is not installed"):
            self.check(device_map="auto")


class TestTransformers:
    @pytest.mark.parametrize("installed", ["4.57.1", "5.16.0", "5.24.0", "6.0.0.dev0"])
    def test_other_releases(self, installed):
        with pytest.raises(UserError, match=rf"transformers {installed}: allowed: 5.17 to 5.23"):
            check_transformers(installed)

    def test_known_releases(self):
        for installed in ("5.17.0", "5.23.0", "5.20.0.dev0"):
            check_transformers(installed)

    def test_the_package_asks_for_the_same(self):
        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
        bounds = f"transformers>={OLDEST[0]}.{OLDEST[1]},<{NEWEST[0]}.{NEWEST[1] + 1}"
        assert bounds in project["dependencies"]


def test_another_transformers_is_refused_before_it_is_imported(vlmprune, tmp_path, monkeypatch):  # noqa: F811
    other = tmp_path / "transformers-5.99.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 5.99.0\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = vlmprune("run", "limit=4", "logger=none")
    assert done.returncode == 2, done.stderr
    assert "transformers 5.99.0: allowed: 5.17 to 5.23" in done.stderr and "Traceback" not in done.stderr
