"""The chart: drawn, not blank, deterministic, and its text where a reader looks for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.results.synthetic import make_run
from vlmprune.cli.compare import compare
from vlmprune.config.registry import find_choices
from vlmprune.errors import UserError
from vlmprune.results.charts import categories_of
from vlmprune.results.curves import BASELINE, LOOKS, choose_line_styles, find_look
from vlmprune.results.find import find_runs
from vlmprune.results.statistics import clustered_interval


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    make_run(tmp_path, "none")
    for ratio in (0.5, 0.9):
        make_run(tmp_path, "random", ratio)
        make_run(tmp_path, "cls", ratio)
    make_run(tmp_path, "cls", 1.0)
    return tmp_path


def test_png_is_readme_wide_and_not_blank(outputs: Path, tmp_path: Path) -> None:
    file = tmp_path / "docs" / "chart.png"
    assert compare([str(outputs), f"chart={file}"]) == 0
    pixels = np.asarray(Image.open(file).convert("RGB")).astype(int)
    assert 880 <= pixels.shape[1] <= 1000
    for half in (pixels[:, :480], pixels[:, 480:]):
        assert (half.min(2) < 250).mean() > 0.02
        assert (np.abs(half - (0x00, 0x72, 0xB2)).sum(2) < 12).sum() > 100  # the first method's blue line


def test_svg_has_its_text_and_is_reproducible(outputs: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    compare([str(outputs), f"chart={first}", "method=cls"])
    compare([str(outputs), f"chart={second}", "method=cls"])
    text = first.read_text()
    for words in ("unpruned", "blind", "cls", "GFLOPs per question", "visual tokens removed (%)", "accuracy (%)"):
        assert words in text
    assert "random" not in text.replace("Random", "")
    assert first.read_bytes() == second.read_bytes()


def test_every_group_has_its_panels(outputs: Path, tmp_path: Path) -> None:
    make_run(outputs, "cls", 0.5, model="llava")
    make_run(outputs, "none", benchmark="gqa")  # a group with nothing but a reference
    file = tmp_path / "chart.svg"
    compare([str(outputs), f"chart={file}"])
    text = file.read_text()
    assert "tiny on scenes" in text and "llava on scenes" in text and "tiny on gqa" in text


def test_unwritable_chart_is_a_user_error(outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        compare([str(outputs), f"chart={tmp_path / 'file' / 'chart.png'}"])


def test_a_folder_of_charts_has_every_kind_as_png_and_svg(outputs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    assert compare([str(outputs), f"charts={folder}"]) == 0
    names = ("ratio", "flops", "latency", "categories")
    assert {file.name for file in folder.iterdir()} == {f"{name}.{end}" for name in names for end in ("png", "svg")}
    texts = {name: (folder / f"{name}.svg").read_text() for name in names}
    assert "visual tokens removed (%)" in texts["ratio"] and "GFLOPs per question" in texts["flops"]
    assert "end to end, % of unpruned in the same run" in texts["latency"]
    assert "95 % interval" in texts["latency"]
    assert "color (160)" in texts["categories"] and "count (160)" in texts["categories"]
    for name in names:
        pixels = np.asarray(Image.open(folder / f"{name}.png").convert("RGB")).astype(int)
        assert (np.abs(pixels - (0x00, 0x72, 0xB2)).sum(2) < 12).sum() > 100


def test_a_name_with_dollars_is_no_formula(outputs: Path, tmp_path: Path) -> None:
    make_run(outputs, "cls", 0.5, seed=1, settings={"start_layer": r"$\nonsense{$"})
    compare([str(outputs), f"chart={tmp_path / 'x.svg'}"])
    assert r"cls start_layer=$\nonsense{$" in (tmp_path / "x.svg").read_text()


def test_runs_that_were_not_timed_have_no_latency_chart(tmp_path: Path) -> None:
    make_run(tmp_path, "cls", 0.5, timings={"latency": None})
    compare([str(tmp_path), f"charts={tmp_path / 'figures'}"])
    assert not list((tmp_path / "figures").glob("latency*")) and list((tmp_path / "figures").glob("ratio*"))


def test_scores_by_kind_of_question_are_means_with_intervals(outputs: Path) -> None:
    runs = find_runs([outputs])[0]
    categories = categories_of(runs)
    assert [(category.name, category.questions) for category in categories] == [("color", 160), ("count", 160)]
    for run in runs:
        rows = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text().splitlines()]
        for category in categories:
            own = [row for row in rows if row["category"] == category.name]
            score, low, high = category.scores[run.path]
            assert score == pytest.approx(sum(row["score"] for row in own) / 160) and low < score < high
            alone = clustered_interval([row["score"] for row in own], [row["image_id"] for row in own])
            assert (low, high) == pytest.approx(alone)


def test_a_method_looks_the_same_in_any_company() -> None:
    alone = choose_line_styles(["fastv"])
    beside = choose_line_styles(["cls", "fastv", "mine", "random scope=tile", "divprune"])
    assert beside["fastv"] == alone["fastv"] and choose_line_styles(["mine"])["mine"] == beside["mine"]
    assert list(beside)[-1] == "random scope=tile" and beside["random scope=tile"]["color"] == BASELINE


def test_shipped_methods_have_looks_of_their_own() -> None:
    names = find_choices("method", None)
    assert set(LOOKS) >= {"unpruned" if name == "none" else name for name in names}
    assert len(set(LOOKS.values())) == len(LOOKS)


def test_a_method_of_ones_own_has_a_look_that_stays() -> None:
    names = [f"mine_{number}" for number in range(30)]
    assert find_look("mine") == ("#CC79A7", "P")  # today and in every later version
    assert {find_look(name) for name in names}.isdisjoint(LOOKS.values())
    assert len({find_look(name) for name in names}) > 20


def test_settings_of_one_method_differ_in_dashes_and_fill() -> None:
    labels = ["cls", "cls keep_order=score", "cls scope=tile"]
    looks = choose_line_styles(labels)
    assert {(look["color"], look["marker"]) for look in looks.values()} == {find_look("cls")}
    assert all(len({look[part] for look in looks.values()}) == 3 for part in ("linestyle", "fillstyle"))


def test_one_row_of_categories_is_as_high_as_its_lines_need(outputs: Path, tmp_path: Path) -> None:
    compare([str(outputs), f"charts={tmp_path / 'figures'}"])
    pixels = np.asarray(Image.open(tmp_path / "figures" / "categories.png").convert("RGB")).astype(int)
    ink = (pixels.max(2) < 0x60).sum(0)
    assert ink[: pixels.shape[1] // 4].max() > 180  # the y-axis of the first panel
