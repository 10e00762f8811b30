"""Pictures of kept tokens: what is drawn where, and what `show` and a run leave behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.benchmarks.fixtures import write_video
from tests.models.hub import save
from tests.runs import run
from vlmprune.benchmarks.base import Sample
from vlmprune.benchmarks.scenes import Scenes
from vlmprune.cli import main
from vlmprune.cli.show import answer_question, load_model, read_question
from vlmprune.config.settings import compose_run
from vlmprune.models.geometry import Box, View, grid_of
from vlmprune.pictures.drawing import KEPT, MERGED, kept_panel, score_panel
from vlmprune.pictures.pages import LARGEST, choose_samples, file_name_part, unpack_mask
from vlmprune.pictures.selection_trace import Trace

RED = (200, 30, 30)


def colours(panel: Image.Image, box: tuple[int, int, int, int]) -> set[tuple[int, ...]]:
    return {colour for _, colour in panel.crop(box).getcolors(10**6)}


def test_kept_patches_stay_and_others_fade() -> None:
    picture = Image.new("RGB", (40, 40), RED)
    view = View(0, Box(0, 0, 40, 40), grid_of(4, 4))
    kept, merged = np.zeros(16, dtype=bool), np.zeros(16, dtype=bool)
    kept[[5, 6, 15]] = merged[15] = True
    panel = kept_panel(picture, view, kept, merged, 400, 400)
    assert panel.size == (400, 400)
    assert colours(panel, (110, 110, 290, 190)) == {RED}  # the two kept ones are one region, outlined as a whole
    assert tuple(bytes.fromhex(KEPT[1:])) in colours(panel, (100, 100, 300, 200))
    assert tuple(bytes.fromhex(MERGED[1:])) in colours(panel, (300, 300, 400, 400))
    (faded,) = colours(panel, (0, 0, 99, 99))
    assert min(faded) > 150 and max(faded) - min(faded) <= 1  # grey and light


def test_padding_and_what_is_cropped_away_are_told_apart() -> None:
    picture = Image.new("RGB", (80, 40), RED)
    slots = torch.tensor([[-1, -1], [0, 1], [2, 3], [-1, -1]])
    padded = kept_panel(picture, View(0, Box(0, -20, 80, 60), slots), np.ones(4, bool), np.zeros(4, bool), 80, 80)
    assert padded.size == (80, 80)
    assert RED not in colours(padded, (0, 0, 80, 20)) and RED in colours(padded, (0, 20, 80, 60))
    cropped = kept_panel(
        picture, View(0, Box(20, 0, 60, 40), grid_of(2, 2)), np.ones(4, bool), np.zeros(4, bool), 80, 80
    )
    assert RED not in colours(cropped, (0, 0, 19, 40)) and RED in colours(cropped, (22, 2, 58, 38))


def test_a_higher_score_is_lighter() -> None:
    view = View(0, Box(0, 0, 40, 10), grid_of(1, 4))
    panel = score_panel(Image.new("RGB", (40, 10), RED), view, np.array([0.1, 0.2, 0.9, np.nan]), 40, 10)
    low, middle, high, none = (np.mean(panel.getpixel((x, 5))) for x in (5, 15, 25, 35))
    assert low < middle < high and none > middle
    assert panel.getpixel((35, 5))[0] == panel.getpixel((35, 5))[2]  # no score, no colour


def test_the_same_samples_for_every_method_of_different_images() -> None:
    samples = [Sample(f"q{i}", f"image{i // 5}", "?", "", "") for i in range(50)]
    chosen = choose_samples(samples, 4)
    assert [sample.id for sample in chosen] == ["q0", "q10", "q25", "q35"]
    assert [sample.id for sample in choose_samples(samples[:5], 3)] == ["q0", "q1", "q3"]
    assert choose_samples(samples[:2], 8) == samples[:2] and choose_samples(samples, 0) == []
    assert file_name_part("a/b c:1") == "a_b_c_1" and unpack_mask({"n": 6, "kept": "16"}).tolist() == [0, 1, 0, 1, 1, 0]


def traced(method: str, **settings: object) -> tuple[Trace, object]:
    """A scene's trace and what is shown of it, on the embedded model."""
    from vlmprune.evaluation.plan import choose_parts

    config = compose_run([f"method={method}", *(f"{name}={value}" for name, value in settings.items())])
    chosen, _, clip = choose_parts(config)
    return answer_question(read_question([]), config, load_model(config), chosen, clip)


def test_scores_are_those_that_decide() -> None:
    for method in ("cls", "fastv"):
        shown = traced(method, ratio=0.9)
        assert np.isfinite(shown.scores).all() and shown.left == shown.kept.sum() == 14
        assert shown.scores[shown.kept].min() >= shown.scores[~shown.kept].max()
    composed = traced("compose", ratio=0.9)
    assert composed.kept.sum() == 14
    assert (composed.scores == traced("cls", ratio=0.9).scores).all()  # of the first stage, never two scales in one map


@pytest.mark.parametrize(
    ("method", "merged"), [("cls", 0), ("divprune", 0), ("visionzip", 3), ("pool", 12), ("sparsevlm", 1), ("tome", 1)]
)
def test_merged_tokens_are_marked(method: str, merged: int) -> None:
    """VisionZip at 14 tokens: [CLS] and two contextual ones."""
    shown = traced(method, ratio=0.9)
    count = int(shown.merged.sum())
    assert not (shown.merged & ~shown.kept).any()
    assert count == merged if method in ("cls", "divprune", "visionzip", "pool") else count >= merged


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmprune.cli.show.MAX_NEW_TOKENS", 3)


def test_show_draws_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.effect_noise((90, 60), 60).convert("RGB").save(tmp_path / "a=b.png")
    file = tmp_path / "out.png"
    asked = [str(tmp_path / "a=b.png"), "What = is it?", "method=cls,fastv", "ratio=0.5,0.9", f"file={file}"]
    assert main(["show", *asked]) == 0
    out = capsys.readouterr().out
    assert out.count("cls") == out.count("fastv") == 2 and "unpruned" in out and "14/144" in out
    assert str(file) in out.replace("\n", "")
    page = Image.open(file)
    assert page.width > 600 and page.height > 600


def test_show_tells_runs_of_one_method_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = f"file={tmp_path / 'out.png'}"
    settings = ["method=none,fastv", "ratio=0.9", "method.k=3", "positions=keep,renumber", "seed=1"]
    assert main(["show", *settings, file]) == 0
    rows = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines() if "/144" in line]
    both = [f"fastv ratio=0.9 method.k=3 positions={how} seed=1" for how in ("keep", "renumber")]
    assert rows == ["unpruned", *both]


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", ["llava_next", "video_llava", "llava_onevision", "internvl", "qwen2_5_vl", "qwen3_vl"]
)
def test_show_works_on_every_family(family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two pictures, then a video, with a method before and one inside the decoder."""
    folder = save(tmp_path / family, family)
    for name, size in (("a.png", (90, 60)), ("b.png", (60, 110))):
        Image.effect_noise(size, 60).convert("RGB").save(tmp_path / name)
    write_video(tmp_path / "clip.mp4", frames=12)
    settings = ["model=path", f"model.path={folder}", "method=cls,fastv", "ratio=0.5", f"file={tmp_path}/out.png"]
    for files in ([tmp_path / "a.png"], [tmp_path / "a.png", tmp_path / "b.png"], [tmp_path / "clip.mp4"]):
        assert main(["show", *map(str, files), "What is it?", *settings]) == 0
        assert Image.open(tmp_path / "out.png").height > 300
    assert "fastv" in capsys.readouterr().out


def test_a_picture_needs_a_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "good.png")
    assert main(["show", str(tmp_path / "good.png")]) == 2
    assert "no question about" in capsys.readouterr().err


def test_a_run_leaves_pictures_of_the_same_questions(tmp_path: Path) -> None:
    quick = ["limit=12", "latency_samples=0", "logger=none", f"outputs={tmp_path}", "show.samples=3"]
    found = {}
    for method in (["method=cls", "ratio=0.9"], ["method=fastv", "ratio=0.9"], ["method=none"]):
        result = run(compose_run([*method, *quick]))
        (folder,) = tmp_path.glob(f"scenes/tiny/{result['method']}-*/pictures")
        index = json.loads((folder / "index.json").read_text())
        keys = ["file", "id", "question", "answer", "prediction", "score", "kept", "total", "panels"]
        assert len(index) == 3 and all(list(entry) == keys for entry in index)
        assert all(Image.open(folder / entry["file"]).width > 600 for entry in index)
        assert {Image.open(folder / entry["panels"]).size for entry in index} == {(LARGEST, LARGEST)}  # without words
        found[result["method"]] = [(entry["id"], entry["kept"]) for entry in index]
    assert [name for name, _ in found["cls"]] == [name for name, _ in found["fastv"]]
    assert {kept for _, kept in found["cls"]} == {14} and {kept for _, kept in found["none"]} == {144}


def test_no_pictures_where_none_are_asked_for(tmp_path: Path) -> None:
    run(compose_run(["limit=2", "latency_samples=0", "logger=none", f"outputs={tmp_path}", "show.samples=0", "keep=9"]))
    assert not list(tmp_path.rglob("pictures"))


def test_scenes_of_the_default_picture() -> None:
    question = read_question([])
    assert question.kind == "image" and len(question.pictures) == 1 and question.text
    assert question.text in {sample.question for sample in Scenes(max_new_tokens=1).load()}
