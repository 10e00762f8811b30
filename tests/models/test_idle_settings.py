"""A setting that cannot act with this model or on these questions is refused before weights load; a default is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.benchmarks.fixtures import write_video
from tests.models.hub import save
from vlmprune.config.settings import compose_run
from vlmprune.errors import IdleSetting
from vlmprune.evaluation.plan import choose_parts, make_plan


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> dict[str, Path]:
    """Folders of one question each: about an image, and about a video."""
    found = {}
    for kind in ("image", "video"):
        folder = found[kind] = tmp_path_factory.mktemp(kind)
        name = {"image": "a.png", "video": "a.mp4"}[kind]
        write_video(folder / name) if kind == "video" else Image.new("RGB", (90, 60)).save(folder / name)
        (folder / "questions.jsonl").write_text(json.dumps({"image": name, "question": "What?", "answer": "red"}))
    return found


# Family, kind of question, setting; whether it can act there.
CASES = [
    ("llava", "image", "scope=image", False),
    ("llava", "video", "scope=image", False),
    ("llava", "image", "scope=tile", True),  # the published one of cls anyway
    ("llava_next", "image", "scope=image", True),
    ("llava_onevision", "image", "scope=image", True),
    ("qwen2_5_vl", "image", "scope=image", False),
    ("qwen2_5_vl", "video", "scope=image", True),
    ("qwen3_vl", "image", "scope=image", False),
    ("video_llava", "image", "scope=image", False),
    ("video_llava", "video", "scope=image", True),
    ("qwen2_5_vl", "image", "model.video_max_pixels=8000", False),
    ("qwen2_5_vl", "image", "model.max_pixels=8000", True),
    ("qwen2_5_vl", "video", "model.video_max_pixels=8000", True),
    ("qwen2_5_vl", "video", "model.max_pixels=8000", True),  # a frame is a picture where nothing else is said
    ("internvl", "video", "model.max_tiles=3", False),
    ("internvl", "image", "model.max_tiles=3", True),
    ("video_llava", "video", "model.image=pad", False),
    ("video_llava", "image", "model.image=pad", True),
    ("llava", "video", "model.image=pad", True),  # whose frames are images
    ("llava", "image", "benchmark.num_frames=2", False),
    ("llava", "image", "benchmark.num_frames=8", True),  # the default
    ("llava", "video", "benchmark.num_frames=2", True),
    ("llava", "image", "benchmark.frames=middles", False),
    ("llava", "image", "orientation=stored", True),
    ("llava", "image", "model.generation=greedy", False),
]


@pytest.mark.parametrize(("family", "kind", "setting", "acts"), CASES)
def test_on_questions(hub, questions, tmp_path, family: str, kind: str, setting: str, acts: bool) -> None:
    given = ["method=cls", "ratio=0.5", "model=path", f"model.path={hub(family)}", "device=cpu", setting]
    config = compose_run([*given, "benchmark=folder", f"benchmark.path={questions[kind]}", f"outputs={tmp_path}"])
    if acts:
        make_plan(config)
        return
    with pytest.raises(IdleSetting, match=rf"^{setting}: .*; leave it out$") as refused:
        make_plan(config)
    assert refused.value.setting == setting.partition("=")[0]


def test_newline_tokens_that_are_not_there(hub, questions) -> None:
    given = ["method=cls", "ratio=0.5", "model=path", f"model.path={hub('llava_next')}", "benchmark=folder"]
    given += [f"benchmark.path={questions['image']}", "model.packing=fastervlm"]
    make_plan(compose_run(given))
    with pytest.raises(IdleSetting, match=r"model\.newline=keep: model\.packing=fastervlm has no newline tokens"):
        make_plan(compose_run([*given, "model.newline=keep"]))


def test_positions_that_a_family_keeps_anyway(hub) -> None:
    """They name the same run."""
    given = ["model=path", f"model.path={hub('qwen2_5_vl')}", "ratio=0.5"]
    for method in (["method=cls"], ["method=fastv"], ["method=compose"]):
        plain, kept = (choose_parts(compose_run([*given, *method, *more]))[0] for more in ([], ["positions=keep"]))
        assert plain == kept


def test_a_rule_of_a_generation_config_makes_greedy_act(hub, questions, tmp_path) -> None:
    folder = save(tmp_path / "ruled", "llava")
    (folder / "generation_config.json").write_text(json.dumps({"repetition_penalty": 1.05}))
    given = ["method=cls", "ratio=0.5", "model=path", f"model.path={folder}", "benchmark=folder"]
    make_plan(compose_run([*given, f"benchmark.path={questions['image']}", "model.generation=greedy"]))


def test_data_that_are_read_as_they_lie_there(tmp_path) -> None:
    row = {"image": "a.png", "question": "What?", "answer": "red"}
    Image.new("RGB", (90, 60)).save(tmp_path / "a.png")
    (tmp_path / "chartqa.jsonl").write_text(json.dumps(row | {"type": "human"}))
    columns = "benchmark.columns={image: image, question: question, answer: answer, category: type}"
    given = ["method=cls", "ratio=0.5", "benchmark=chartqa", columns]
    make_plan(compose_run([*given, f"data={tmp_path}"]))
    for setting in ("benchmark.revision=main", "benchmark.split=val"):
        with pytest.raises(IdleSetting, match=rf"{setting}: .*chartqa\.jsonl is read as it lies there; leave it out"):
            make_plan(compose_run([*given, f"data={tmp_path}", setting]))
    with pytest.raises(IdleSetting, match=r"data=.*: the folder has no 'scenes'; put a copy there, or leave it out"):
        make_plan(compose_run(["method=cls", "ratio=0.5", f"data={tmp_path}"]))
