"""A checkpoint whose files do not belong together gives right inputs or one line, before a weight is read."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.models.hub import LLAVA_TEMPLATE
from vlmprune.cli import main
from vlmprune.config.settings import ModelConfig
from vlmprune.errors import UserError
from vlmprune.models import checkpoint, loading
from vlmprune.models.checkpoint import describe_checkpoint
from vlmprune.models.outline import build_weightless, check_inputs

PICTURES = "preprocessor_config.json"
Fault = Callable[[Path], object]


def edit(file: str, part: str | None = None, **changes: object) -> Fault:
    """Set fields of a JSON file, or of an object in it; ... leaves one out."""

    def apply(folder: Path) -> None:
        path = folder / file
        data = json.loads(path.read_text()) if path.exists() else {}
        own = data if part is None else data[part]
        own |= changes
        for name in [name for name, value in own.items() if value is ...]:
            del own[name]
        path.write_text(json.dumps(data))

    return apply


def template(text: str) -> Fault:
    return lambda folder: (folder / "chat_template.jinja").write_text(text)


def words(count: int) -> Fault:
    """More words than the embedding has rows."""

    def apply(folder: Path) -> None:
        data = json.loads((folder / "tokenizer.json").read_text())
        data["model"]["vocab"] |= {f"word{index}": index for index in range(256, 256 + count)}
        (folder / "tokenizer.json").write_text(json.dumps(data))

    return apply


def extra_token(prompt: str) -> Fault:
    """One more token than the embedding has rows, and the chat template's beginning."""

    def apply(folder: Path) -> None:
        data = json.loads((folder / "tokenizer.json").read_text())
        data["model"]["vocab"]["<extra>"] = 256
        data["added_tokens"].append(data["added_tokens"][-1] | {"id": 256, "content": "<extra>"})
        (folder / "tokenizer.json").write_text(json.dumps(data))
        file = folder / "chat_template.jinja"
        file.write_text(prompt + file.read_text())

    return apply


def inputs(folder: Path, **settings):
    config = ModelConfig("path", str(folder), **settings)
    return build_weightless(describe_checkpoint(config), config).preprocessor


def damaged(hub: Callable[[str], Path], family: str, fault: Fault | str, where: Path) -> Path:
    folder = Path(shutil.copytree(hub(family), where / "checkpoint"))
    if isinstance(fault, str):  # a family whose image processor it has instead
        shutil.copy(hub(fault) / PICTURES, folder)
    else:
        fault(folder)
    return folder


LARGE = edit(PICTURES, size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
SHAPE = r"gives pixel_values\w* of shape \[.*\], and the vision encoder of its config.json takes"
OTHER = r"does not make the inputs of \w+ \(.*\); preprocessor_config.json is another model's"
RAISES = "model.prompt=chat_template: the checkpoint's chat template raises"


@pytest.mark.parametrize(
    ("family", "fault", "line"),
    [
        ("llava", LARGE, r"shape \[1, 3, 336, 336\], and the vision encoder .* takes \[any, 3, 56, 56\]"),
        ("video_llava", LARGE, SHAPE),
        ("llava", edit(PICTURES, do_center_crop=False), SHAPE),  # 56 x 74
        ("llava", edit(PICTURES, do_resize=False, do_center_crop=False), SHAPE),
        ("internvl", edit(PICTURES, size={"height": 112, "width": 112}), SHAPE),
        ("llava", edit(PICTURES, image_mean=None), r"`image_mean` and `image_std` must both be specified"),
        ("llava", edit(PICTURES, image_mean=[0.5]), r"mean must have 3 elements"),
        ("llava", edit(PICTURES, image_std=[0, 0, 0]), "pixels that are not finite; correct its image_std"),
        ("qwen2_5_vl", edit(PICTURES, patch_size=16), "its image processor has patch_size=16, its config.json 14"),
        ("qwen2_5_vl", edit(PICTURES, merge_size=4), "its image processor has merge_size=4, its config.json 2"),
        ("qwen3_vl", edit(PICTURES, temporal_patch_size=1), "temporal_patch_size=1, its config.json 2"),
        ("qwen3_vl", edit(PICTURES, size={"height": 56, "width": 56}), OTHER),
        ("qwen2_5_vl", edit(PICTURES, size={"shortest_edge": 0, "longest_edge": 9000}), OTHER),
        ("llava_next", edit(PICTURES, image_grid_pinpoints=[[56, 112]]), r"image_grid_pinpoints=\[\[56, 112\]\], its"),
        ("llava_onevision", edit(PICTURES, image_grid_pinpoints=[[56, 112]]), r"image_grid_pinpoints=\[\[56, 112\]\]"),
        ("llava", "qwen2_5_vl", SHAPE),
        ("llava", "llava_next", SHAPE),
        ("llava", "internvl", "a prompt has 16 '<image>' where its image processor makes pixels of 208"),
        ("llava_next", "llava", OTHER),
        ("llava_onevision", "llava", OTHER),
        ("internvl", "llava", "its image processor, CLIPImageProcessorPil, cuts no tiles"),
        ("qwen2_5_vl", "llava", OTHER),
        ("qwen2_5_vl", "qwen3_vl", "patch_size=16, its config.json 14"),
        ("llava", edit("processor_config.json", image_token="<img>"), "image_token is '<img>', and image_token_id=255"),
        ("llava", edit("config.json", image_token_id=3, image_token_index=3), "does not place the prompt's image"),
        ("llava", edit("config.json", image_token_id=200, image_token_index=200), "its tokenizer has no token 200"),
        ("llava", extra_token("<extra>"), "its tokenizer writes '<extra>' as 256, and its config.json's vocab_size is"),
        ("llava", words(3), "ids up to 258, and its config.json's vocab_size is 256"),
        ("llava", edit("tokenizer_config.json", pad_token=..., unk_token=...), "neither pad_token nor eos_token"),
        ("llava", lambda folder: (folder / "processor_config.json").write_text("[1]"), "processor_config.json cannot"),
        ("llava", template("{{ raise_exception('only text') }}"), rf"{RAISES} TemplateError \(only text\); correct it"),
        ("llava", template("{{ messages[0].content.strip() }}"), f"{RAISES} UndefinedError"),
        ("llava", template("{{ 'USER: ' + messages[0]['content'] }}"), f"{RAISES} TypeError"),
        ("llava", template("{% for message in %}"), f"{RAISES} TemplateSyntaxError"),
        ("llava", template("{{ 1 / 0 }}"), f"{RAISES} ZeroDivisionError"),
        ("llava", template("{% for m in messages %}{{ m['content'] }}{% endfor %}"), "does not place the prompt's"),
        ("llava", template(LLAVA_TEMPLATE.replace("<image>\n", "")), "does not place the prompt's image"),
        ("llava", template(LLAVA_TEMPLATE.replace("<image>", "<image><image>")), "does not place the prompt's image"),
        ("llava", template("USER: <image>\nASSISTANT:"), "chat template leaves the question out"),
        ("llava", edit("config.json", "vision_config", hidden_act="nope"), "cannot build the model of its config"),
        ("llava", edit("config.json", "text_config", hidden_act="nope"), r"cannot build .* \(KeyError: 'nope'\)"),
        ("llava", edit("config.json", "text_config", pad_token_id=999), "cannot build .*Padding_idx must be within"),
    ],
)  # fmt: skip
def test_a_line_before_weights(hub, tmp_path, family, fault, line):
    with pytest.raises(UserError, match=line):
        inputs(damaged(hub, family, fault, tmp_path))


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (edit("config.json", "text_config", hidden_act="nope"), "text_config in the model's config.json: transf"),
        (edit("config.json", "text_config", rope_parameters={"rope_type": "nope"}), "cannot build it .KeyError"),
        (edit("config.json", "text_config", num_hidden_layers=0), "config.json: text_config.num_hidden_layers=0: "),
        (LARGE, r"shape \[1, 3, 336, 336\]"),
    ],
)  # fmt: skip
def test_exit_code_2_and_no_file_of_weights_is_opened(hub, tmp_path, fault, line, monkeypatch, capsys):
    folder = damaged(hub, "llava", fault, tmp_path)
    opened: list[object] = []
    for module, name in ((checkpoint, "check_files"), (checkpoint, "folder_hash"), (loading, "read_weights")):
        monkeypatch.setattr(module, name, lambda *args: opened.append(args))
    (folder / "model.safetensors").write_bytes(b"no weights")  # whoever opened it would say so
    assert main(["run", "model=path", f"model.path={folder}", "ratio=0.5", "limit=2", "logger=none"]) == 2
    (shown,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("vlmprune: ")]
    assert re.search(line, shown)
    assert not opened


@pytest.mark.parametrize(
    "fault",
    [
        edit("tokenizer_config.json", pad_token=...),
        edit("tokenizer_config.json", pad_token="<image>"),
        edit("tokenizer_config.json", padding_side="right"),
        edit("processor_config.json", patch_size=7, num_additional_image_tokens=0),
        edit("processor_config.json", vision_feature_select_strategy="full"),
        edit(PICTURES, image_mean=...),  # the class's own, which is CLIP's
        edit(PICTURES, image_mean=[0.48145466, 0.4578275, 0.40821073], image_std=...),
    ],
)  # fmt: skip
def test_what_does_not_matter_gives_the_same_inputs(hub, tmp_path, fault):
    pictures = [Image.effect_noise((90, 60), 80).convert("RGB"), Image.effect_noise((50, 70), 80).convert("RGB")]
    found = []
    for folder in (hub("llava"), damaged(hub, "llava", fault, tmp_path)):
        prepare = inputs(folder)
        media = [prepare.media([picture], "image") for picture in pictures]
        batch = prepare.batch(["What is the star?", "How"], media, torch.device("cpu"), torch.float32)
        assert batch["attention_mask"][1].tolist() == sorted(batch["attention_mask"][1].tolist())  # filled on the left
        masked = batch["input_ids"] * batch["attention_mask"]
        seen = prepare.adapter.visual_mask(batch["input_ids"]).sum(1)
        found.append((masked.tolist(), seen.tolist(), batch["pixel_values"].tolist()))
    assert found[0] == found[1]


def test_a_number_for_a_mean_pads_too(hub, tmp_path):
    folder = damaged(hub, "llava", edit(PICTURES, image_mean=0.5, image_std=0.5), tmp_path)
    with pytest.raises(UserError, match=OTHER):
        inputs(folder, image="pad")
    assert inputs(folder).limits == {}


def test_one_familys_processor_does_anothers_work_where_both_do_the_same(hub, tmp_path):
    """LLaVA-OneVision's image processor gives LLaVA-NeXT's pixels, with an input more that NeXT does not take."""
    prepare = inputs(damaged(hub, "llava_next", "llava_onevision", tmp_path))
    picture = Image.effect_noise((90, 60), 80).convert("RGB")
    assert prepare.media([picture], "image")[0].tensors.keys() == {"pixel_values", "image_sizes"}


def test_videos_are_tried_out_where_a_benchmark_has_them(hub, tmp_path):
    folder = damaged(hub, "qwen2_5_vl", edit("video_preprocessor_config.json", size={"shortest_edge": 0}), tmp_path)
    with pytest.raises(UserError, match="video processor; allowed: shortest_edge and longest_edge"):
        inputs(folder)
    config = ModelConfig("path", str(hub("qwen3_vl")))
    found = build_weightless(describe_checkpoint(config), config)
    check_inputs(found, "here", "video")
    found.preprocessor.prompts.__dict__["chat_template"] = "{{ messages[0].content[1].text }}<|image_pad|>"
    with pytest.raises(UserError, match="does not place the prompt's video"):
        check_inputs(found, "here", "video")


def test_the_same_question_is_tried_once(hub, monkeypatch):
    first = inputs(hub("llava"))
    monkeypatch.setattr("vlmprune.models.outline.read_processors", None)
    assert inputs(hub("llava")) is first
