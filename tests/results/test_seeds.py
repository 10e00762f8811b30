"""Seeds of one setting are one row: mean, standard deviation, number; what cannot be one row stays apart."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest

import vlmprune
from tests.results.synthetic import as_json, change_result, make_run
from vlmprune.cli.compare import compare
from vlmprune.results.comparison import make_labelled_rows
from vlmprune.results.curves import BASELINE, RATIO, chart_style, choose_line_styles, draw_panel, run_scores
from vlmprune.results.find import find_runs, group_runs
from vlmprune.results.question_scores import read_questions
from vlmprune.results.statistics import clustered_interval

SEEDS = (10, 2, 0)


def make_seeds(outputs: Path, ratio: float = 0.5, seeds: tuple[int, ...] = SEEDS) -> list[Path]:
    """Runs of random pruning that differ in the seed alone, in the order of `seeds`."""
    return [make_run(outputs, "random", ratio, seed=seed, settings={"seed": seed}) for seed in seeds]


def score_of(run: Path) -> float:
    return json.loads((run / "result.json").read_text())["answers"]["score"]


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    make_run(tmp_path, "none")
    make_run(tmp_path, "cls", 0.5)
    make_seeds(tmp_path)
    return tmp_path


def test_they_are_one_row_of_every_format(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = sorted(outputs.glob("scenes/tiny/random-*"))
    scores = [score_of(run) for run in runs]
    assert len(set(scores)) == 3
    by_json = as_json(capsys, str(outputs))["groups"][0]["runs"]
    compare([str(outputs), "format=csv"])
    by_csv = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    for rows in (by_json, by_csv, vlmprune.results(outputs)):
        assert [row["label"] for row in rows] == ["none", "cls", "random"]
        assert [int(row["seeds"]) for row in rows] == [1, 1, 3]
        row = rows[2]
        assert float(row["score"]) == pytest.approx(fmean(scores))
        assert float(row["score_sd"]) == pytest.approx(stdev(scores)) and not rows[1]["score_sd"]
        assert float(row["relative_score"]) == pytest.approx(fmean(scores) / float(rows[0]["score"]))
        assert float(row["versus_unpruned"]) == pytest.approx(fmean(scores) - float(rows[0]["score"]))
        first = json.loads((Path(row["path"]) / "config.yaml").read_text())["method"]["seed"]
        assert first == 0 and "setting_seed" not in row
    text = f"{100 * fmean(scores):.1f} ±{100 * stdev(scores):.1f} ["
    for style in ("table", "markdown", "latex"):
        compare([str(outputs), f"format={style}"])
        out = capsys.readouterr().out.replace(r"$\pm$", "±").replace("{[}", "[")
        assert text in out and "seeds" in out and "standard deviation" in out


def test_the_interval_is_of_each_questions_mean_over_the_seeds(outputs: Path, capsys: Any) -> None:
    questions = [read_questions(run / "predictions.jsonl") for run in outputs.glob("scenes/tiny/random-*")]
    means = np.mean([each.scores for each in questions], axis=0)
    row = as_json(capsys, str(outputs))["groups"][0]["runs"][2]
    assert (row["score_low"], row["score_high"]) == pytest.approx(clustered_interval(means, questions[0].images))


def test_one_seed_looks_as_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_seeds(tmp_path, 0.5, (3,))
    make_seeds(tmp_path, 0.9, (4,))
    compare([str(tmp_path), "format=markdown"])
    out = capsys.readouterr().out
    assert out.count("| random | 50 % |") == out.count("| random | 90 % |") == 1 and "| seeds |" not in out
    assert not [line for line in out.splitlines() if line.startswith("| ") and "±" in line]


def test_a_chart_has_one_curve_and_one_band(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    for ratio, seeds in ((0.5, (0, 1)), (0.75, (7,)), (0.9, (0, 1, 2))):
        make_seeds(tmp_path, ratio, seeds)
    (group,) = group_runs(find_runs([tmp_path])[0])
    rows = make_labelled_rows(group, group)
    assert [(row.label, len(row.run.seeds)) for row in rows] == [("random", 2), ("random", 1), ("random", 3)]
    with chart_style():
        axes = Figure().subplots()
        draw_panel(axes, rows, RATIO, choose_line_styles(row.label for row in rows), run_scores(rows))
    (line,) = [line for line in axes.lines if line.get_color() == BASELINE]
    assert list(line.get_ydata()) == pytest.approx([100 * row.run.score for row in rows]) and len(axes.collections) == 1


def test_a_seed_that_was_run_twice_is_averaged_with_none(tmp_path: Path, capsys: Any) -> None:
    make_seeds(tmp_path, 0.5, (0, 1))
    (again,) = make_seeds(tmp_path / "again", 0.5, (1,))
    rows = as_json(capsys, str(tmp_path))["groups"][0]["runs"]
    assert sorted(row["label"] for row in rows) == ["random seed=0", "random seed=1", "random seed=1"]
    assert {row["seeds"] for row in rows} == {1} and sorted(row["setting_seed"] for row in rows) == [0, 1, 1]
    rows = as_json(capsys, str(tmp_path), str(again))["groups"][0]["runs"]
    assert len(rows) == 3


def test_a_seed_without_a_score_or_with_fewer_questions_stays_apart(tmp_path: Path, capsys: Any) -> None:
    runs = make_seeds(tmp_path, 0.5, (0, 1, 2, 3))
    change_result(runs[2], {"score": None, "interval95": None})
    change_result(runs[3], {"samples": 319})
    rows = as_json(capsys, str(tmp_path))["groups"][0]["runs"]
    assert sorted((row["label"], row["seeds"]) for row in rows) == [
        ("random", 2),
        ("random seed=2", 1),
        ("random seed=3", 1),
    ]


def test_where_the_score_is_no_mean_over_questions(tmp_path: Path, capsys: Any) -> None:
    """Such as F1: the interval is the mean of the seeds' ends, and nothing is compared question by question."""
    make_run(tmp_path, "none")
    for run, (score, ends) in zip(
        make_seeds(tmp_path, 0.5, (0, 1)), ((0.4, [0.3, 0.5]), (0.6, [0.4, 0.8])), strict=True
    ):
        change_result(run, {"score": score, "interval95": ends})
    row = as_json(capsys, str(tmp_path))["groups"][0]["runs"][1]
    assert (row["score"], row["score_low"], row["score_high"]) == pytest.approx((0.5, 0.35, 0.65))
    assert row["versus_unpruned"] is None and row["score_sd"] == pytest.approx(stdev([0.4, 0.6]))


def test_times_are_medians_and_the_command_to_repeat_them_names_every_seed(tmp_path: Path, capsys: Any) -> None:
    runs = make_seeds(tmp_path, 0.5, (0, 1, 2))
    for run, factor in zip(runs, (1, 2, 30), strict=True):
        result = json.loads((run / "result.json").read_text())
        latency = result["timings"]["latency"]
        for side in ("pruned", "unpruned"):
            latency[side]["prefill"] = {"median_ms": 4.0 * factor, "p90_ms": 8.0 * factor}
        change_result(run, {}, timings=result["timings"])
    row = as_json(capsys, str(tmp_path))["groups"][0]["runs"][0]
    assert row["latency_prefill_ms"] == 8 and row["prefill_speed_up"] == 1 and "p90" in row["timing_doubt"]
    compare([str(tmp_path)])
    out = capsys.readouterr().out
    assert all(str(run) in out for run in runs)


def test_environments_of_all_seeds_are_looked_at(tmp_path: Path, capsys: Any) -> None:
    runs = make_seeds(tmp_path, 0.5, (0, 1))
    environment = json.loads((runs[0] / "result.json").read_text())["environment"]
    change_result(runs[1], {}, environment=environment | {"device": "cuda:0"})
    (row,) = as_json(capsys, str(tmp_path))["groups"][0]["runs"]
    assert row["device"] == "cpu, cuda:0" and row["dtype"] == "float32"
    compare([str(tmp_path)])
    assert "device differs" in capsys.readouterr().out


def test_they_are_one_row_of_the_hard_questions(tmp_path: Path, capsys: Any) -> None:
    for method in ("none", "pool"):
        make_run(tmp_path, method, None if method == "none" else 0.5)
    make_seeds(tmp_path)
    (table,) = as_json(capsys, str(tmp_path), "--hard")["tables"]
    (row,) = table["runs"]
    assert (row["label"], row["seeds"]) == ("random", 3) and row["hard_sd"] > 0


def test_the_page_has_one_row_and_counts_the_runs(outputs: Path, tmp_path: Path) -> None:
    compare([str(outputs), f"html={tmp_path / 'report.html'}"])
    page = (tmp_path / "report.html").read_text()
    assert "5 runs compared" in page and page.count("<tr>") + page.count("<tr class=front>") == 1 + 3
    assert "±" in page and "5 runs · " in page
