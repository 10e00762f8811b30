"""Runs whose answers are not judged yet, and metrics without an interval, in every report."""

from __future__ import annotations

import json

import pytest

from tests.results.synthetic import as_json, change_result, make_run
from vlmprune.cli.compare import compare
from vlmprune.errors import UserError
from vlmprune.loggers.wandb import summarise_result
from vlmprune.results.charts import draw_overview
from vlmprune.results.comparison import make_rows
from vlmprune.results.find import find_runs, group_runs
from vlmprune.results.summary import summary_lines


@pytest.fixture
def outputs(tmp_path):
    """An unpruned run with a score but no interval, and two pruned ones of which one is not judged."""
    change_result(make_run(tmp_path, "none"), {"interval95": None})
    change_result(make_run(tmp_path, "cls", 0.5), {"score": None, "interval95": None, "metrics": {}})
    make_run(tmp_path, "random", 0.5)
    return tmp_path


@pytest.mark.parametrize("style", ["table", "markdown"])
def test_a_missing_score_is_said_in_words(outputs, style, capsys):
    assert compare([f"outputs={outputs}", f"format={style}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (unjudged,) = [line for line in lines if "not judged" in line]
    assert "cls" in unjudged
    (unpruned,) = [line for line in lines if "unpruned" in line and "/144" in line]
    assert "[" not in unpruned


def test_machine_formats_have_null(outputs, capsys):
    runs = as_json(capsys, f"outputs={outputs}")["groups"][0]["runs"]
    assert {run["method"]: run["score"] is None for run in runs} == {"none": False, "cls": True, "random": False}
    assert [run["relative_score"] for run in runs if run["method"] == "cls"] == [None]
    assert [run["pareto"] for run in runs if run["method"] == "cls"] == [False]


def test_a_chart_leaves_them_out_and_needs_one_that_is_left(outputs, tmp_path):
    (group,) = group_runs(find_runs([outputs])[0])
    rows = make_rows(group, group)
    draw_overview([rows], tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text()
    assert "random" in drawn and "cls" not in drawn
    with pytest.raises(UserError, match="no run has a score yet"):
        draw_overview([[row for row in rows if row.run.method == "cls"]], tmp_path / "b.svg")


def test_the_summary_of_a_run(outputs):
    (directory,) = outputs.glob("scenes/tiny/cls-*")
    result = json.loads((directory / "result.json").read_text())
    lines = dict(summary_lines(result, None))
    assert lines["accuracy"].startswith("none yet") and "relative score" not in lines
    assert "score" not in summarise_result(result, directory)


def test_several_metrics_broken_samples_and_frames_are_shown(tmp_path):
    metrics = {"accuracy": 0.5, "precision": 0.25, **{f"f1_{k}": 0.1 for k in range(9)}}
    result = change_result(make_run(tmp_path, "cls", 0.5), {"metrics": metrics})
    result |= {"bad_samples": {"count": 2, "ids": ["a", "b"]}, "media": "video: 8 frames per question, given as images"}
    lines = dict(summary_lines(result, None))
    assert "precision 0.25" in lines["metrics"] and "5 more in result.json" in lines["metrics"]
    assert lines["left out"].startswith("2 broken samples") and lines["media"].startswith("video: 8 frames")


def test_a_score_that_is_no_mean_is_not_compared_answer_by_answer(tmp_path, capsys):
    make_run(tmp_path, "random", 0.5)
    change_result(make_run(tmp_path, "cls", 0.5), {"score": 0.9, "metric": "f1"})
    (cls,) = [run for run in as_json(capsys, f"outputs={tmp_path}")["groups"][0]["runs"] if run["method"] == "cls"]
    assert cls["score"] == 0.9 and cls["versus_random"] is None and cls["versus_random_p"] is None
