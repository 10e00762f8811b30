"""Limits of the pixels or tiles of a picture: settings that the inputs follow, told, and part of a run's identity."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.runs import run
from vlmprune.cli import main
from vlmprune.config.settings import ModelConfig, compose_run
from vlmprune.errors import UserError
from vlmprune.evaluation.plan import make_plan
from vlmprune.models.checkpoint import describe_checkpoint
from vlmprune.models.families.qwen2_5_vl import LIMITS
from vlmprune.models.outline import build_weightless

SIDES = {"qwen2_5_vl": 28, "qwen3_vl": 32}  # pixels of a visual token
OF = "has no such setting, which is one of"
SHAPES = [(640, 480), (57, 300), (28, 28), (90, 61), (1000, 20)]
SMALL = ("limit=2", "latency_samples=0", "logger=none", "show.samples=0", "ratio=0.5")


def inputs(folder: Path, **options):
    config = ModelConfig("path", str(folder), options=options)
    return build_weightless(describe_checkpoint(config), config).preprocessor


def resized(width: int, height: int, side: int, least: int, most: int) -> tuple[int, int]:
    """Rows and columns of tokens, by Qwen's rule as its report has it: multiples of `side`, within the limits."""
    rows, columns = round(height / side), round(width / side)
    if rows * columns * side**2 > most:
        scale = math.sqrt(width * height / most)
        return max(1, math.floor(height / scale / side)), max(1, math.floor(width / scale / side))
    if rows * columns * side**2 < least:
        scale = math.sqrt(least / (width * height))
        return math.ceil(height * scale / side), math.ceil(width * scale / side)
    return rows, columns


@pytest.mark.parametrize("family", SIDES)
@pytest.mark.parametrize("limits", [(None, None), (None, 5_000), (20_000, 50_000), (3_136, 1_000_000)])
def test_pictures_have_the_tokens_of_smart_resize(hub, family, limits):
    least, most = limits
    prepare = inputs(hub(family), min_pixels=least, max_pixels=most)
    for width, height in SHAPES:
        (medium,) = prepare.media([Image.new("RGB", (width, height))], "image")
        rows, columns = resized(width, height, SIDES[family], least or 32 * 32, most or 128 * 128)
        assert medium.tensors["image_grid_thw"].tolist() == [[1, 2 * rows, 2 * columns]]
        assert len(medium.tensors["pixel_values"]) == 4 * prepare.slots(medium) == 4 * rows * columns


def test_lmms_evals_limits_and_the_checkpoints_own(hub):
    counts = []
    for least, most in ((200_704, 1_605_632), (3_136, 12_845_056)):
        prepare = inputs(hub("qwen2_5_vl"), min_pixels=least, max_pixels=most)
        (medium,) = prepare.media([Image.new("RGB", (2000, 1200))], "image")
        rows, columns = resized(2000, 1200, 28, least, most)
        counts.append(prepare.slots(medium))
        assert counts[-1] == rows * columns
        assert f"{least:,} to {most:,} pixels a picture" in prepare.limits_text("image")
    assert counts == [2030, 3053]


@pytest.mark.parametrize("processor", ["Qwen2VLImageProcessor", "Qwen2VLImageProcessorFast"])
def test_either_class_of_processor_follows_them(hub, tmp_path, processor):
    folder = Path(shutil.copytree(hub("qwen2_5_vl"), tmp_path / "copy"))
    file = folder / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    del settings["size"]  # as the published file has it
    settings |= {"image_processor_type": processor, "min_pixels": 3_136, "max_pixels": 12_845_056}
    file.write_text(json.dumps(settings))
    prepare = inputs(folder)
    assert prepare.own_limits == dict(zip(LIMITS, (3_136, 12_845_056) * 2, strict=True))
    (medium,) = inputs(folder, max_pixels=784 * 6).media([Image.new("RGB", (300, 200))], "image")
    assert medium.tensors["image_grid_thw"].tolist() == [[1, 4, 6]]


def test_videos_have_limits_of_their_own(hub):
    frames = [Image.new("RGB", (300, 200))] * 4
    per_frame = inputs(hub("qwen2_5_vl"), video_max_pixels=784 * 6)
    assert per_frame.media(frames, "video")[0].tensors["video_grid_thw"].tolist() == [[2, 4, 6]]
    assert per_frame.media(frames, "image")[0].tensors["image_grid_thw"].tolist() == [[1, 6, 10]]
    together = inputs(hub("qwen3_vl"), video_max_pixels=4 * 1024 * 6)
    assert together.media(frames, "video")[0].tensors["video_grid_thw"].tolist() == [[2, 4, 6]]
    limits = "4,096 to 24,576 pixels a video, all frames together (at most 12 visual tokens)"
    assert together.limits_text("video") == limits
    # A frame is a picture where the checkpoint does not say otherwise.
    follows = inputs(hub("qwen2_5_vl"), max_pixels=784 * 6)
    assert follows.media(frames, "video")[0].tensors["video_grid_thw"].tolist() == [[2, 4, 6]]


@pytest.mark.parametrize("name", ["processor_config.json", "video_preprocessor_config.json"])
def test_a_video_processors_own_settings(hub, tmp_path, name):
    folder = Path(shutil.copytree(hub("qwen2_5_vl"), tmp_path / "copy"))
    given = {"min_pixels": 784, "max_pixels": 784 * 6}
    data = {"video_processor": given} if name == "processor_config.json" else given
    (folder / name).write_text(json.dumps(data))
    (medium,) = inputs(folder).media([Image.new("RGB", (300, 200))] * 2, "video")
    assert medium.tensors["video_grid_thw"].tolist() == [[1, 4, 6]]


@pytest.mark.parametrize(
    ("width", "limits", "tiles"),
    [(800, (None, None), 13), (800, (None, 6), 7), (800, (None, 1), 1), (900, (8, 24), 25)],
)
def test_tiles_of_a_picture(hub, width, limits, tiles):
    prepare = inputs(hub("internvl"), min_tiles=limits[0], max_tiles=limits[1])
    (medium,) = prepare.media([Image.effect_noise((width, 600), 60).convert("RGB")], "image")
    rows, columns = prepare.adapter.tower.grid
    assert len(medium.tensors["pixel_values"]) == tiles and prepare.slots(medium) == tiles * rows * columns
    assert prepare.prompt_views("What?", [medium], [(width, 600)])[1] == prepare.slots(medium)
    assert len(prepare.media([Image.new("RGB", (900, 600))] * 2, "video")[0].tensors["pixel_values"]) == 2


@pytest.mark.parametrize(
    ("family", "settings", "line"),
    [
        ("qwen2_5_vl", {"max_pixels": 783}, "max_pixels=783: less than one visual token, 28 x 28 pixels; allowed: 784"),
        ("qwen3_vl", {"min_pixels": 1}, "min_pixels=1: less than one visual token, 32 x 32 pixels; allowed: 1024"),
        ("qwen2_5_vl", {"min_pixels": 5000, "max_pixels": 4000}, "min_pixels=5000 and model.max_pixels=4000: allowed"),
        ("qwen2_5_vl", {"min_pixels": 20_000}, r"max_pixels=16384 \(the checkpoint\): .*; give both"),
        ("qwen3_vl", {"video_max_pixels": 2_000}, r"video_min_pixels=4096 \(the checkpoint\) and model.video_max"),
        ("internvl", {"max_tiles": 0}, "max_tiles=0: allowed: 1 or more, at most 10,000"),
        ("internvl", {"max_tiles": "many"}, "max_tiles=many: expected an integer or null"),
        ("internvl", {"max_tile": None}, r"max_tile: internvl has no .* \(did you mean 'max_tiles'\?\); its own"),
        ("internvl", {"atention": "eager"}, r"atention: internvl has no such setting \(did you mean 'attention'\?\)"),
        ("internvl", {"min_tiles": 13}, "min_tiles=13 and model.max_tiles=12: allowed: min_tiles up to"),
        ("internvl", {"max_pixels": 5000}, f"max_pixels: internvl {OF} qwen2_5_vl, qwen3_vl; its own: min_tiles, max_"),
        ("qwen3_vl", {"max_tiles": 6}, f"max_tiles: qwen3_vl {OF} internvl; its own: min_pixels, max_"),
        ("qwen3_vl", {"newline": "keep"}, f"newline: qwen3_vl {OF} llava_next, llava_onevision; its own: min"),
        ("llava", {"packing": "fastervlm"}, f"packing: llava {OF} llava_next; its own: none"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(hub, family, settings, line, capsys):
    with pytest.raises(UserError, match=rf"model\.{line}"):
        inputs(hub(family), **settings)
    typed = [f"model.{name}={value}" for name, value in settings.items()]
    assert main(["run", "model=path", f"model.path={hub(family)}", *SMALL, *typed]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_published_model_without_the_setting_names_the_families(capsys):
    assert main(["run", "model=llava-1.5-7b", "model.max_pixels=5000"]) == 2
    assert "is not a setting of model=llava-1.5-7b, but of qwen2_5_vl, qwen3_vl; allowed" in capsys.readouterr().err


def plan(folder: Path, outputs: Path, *settings: str):
    return make_plan(compose_run(["model=path", f"model.path={folder}", *SMALL, f"outputs={outputs}", *settings]))


def test_they_are_part_of_the_identity(hub, tmp_path):
    folder, outputs = hub("qwen2_5_vl"), tmp_path / "out"
    plain, other = plan(folder, outputs), plan(folder, outputs, "model.max_pixels=5000")
    assert plain.directory.fingerprint != other.directory.fingerprint != other.unpruned.fingerprint
    assert plain.comparable != other.comparable and other.comparable["pictures"] == "max_pixels=5000"
    for same in ("model.max_pixels=16384", "model.min_pixels=1024"):
        assert plan(folder, outputs, same).directory.fingerprint == plain.directory.fingerprint, same


@pytest.mark.slow
def test_they_are_told_by_the_run_its_result_and_the_comparison(hub, tmp_path, capsys):
    outputs = tmp_path / "out"
    given = ["model=path", f"model.path={hub('qwen2_5_vl')}", *SMALL, f"outputs={outputs}"]
    results = [run(compose_run([*given, *more])) for more in ([], ["model.max_pixels=5000"])]
    assert [result["environment"]["limits"]["max_pixels"] for result in results] == [16384, 5000]
    assert [result["answers"]["tokens"]["total"] for result in results] == [16, 4]
    assert "images, 1,024 to 5,000 pixels a picture (at most 6 visual tokens)" in capsys.readouterr().out
    assert main(["compare", str(outputs)]) == 0
    shown = capsys.readouterr().out
    assert "pictures (qwen2_5_vl on scenes): max_pixels=5000 | none" in shown
    assert "float32 · max_pixels=5000" in shown


@pytest.mark.slow
def test_a_store_of_features_keeps_tiles_apart(hub, tmp_path):
    """Encodings are found by the pixels of their tile: other tiles of the same picture are others."""
    where = ["model=path", f"model.path={hub('internvl')}", *SMALL]
    store = f"features.folder={tmp_path / 'store'}"
    answers = {}
    for name, more in (("alone", []), ("after", [store]), ("shared", [store])):
        tiles = "model.max_tiles=12" if name == "after" else "model.max_tiles=3"
        result = run(compose_run([*where, tiles, *more, f"outputs={tmp_path / name}"]))
        (file,) = (tmp_path / name).rglob("predictions.jsonl")
        answers[name] = (
            result["answers"]["tokens"],
            [json.loads(line)["prediction"] for line in file.read_text().splitlines()],
        )
    assert answers["shared"] == answers["alone"] != answers["after"]
