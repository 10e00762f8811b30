"""Runs that are not judged yet, without an interval, or whose FLOPs cannot be counted, in every report."""

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

UNCOUNTED = {"flops": None, "flops_unknown": "the raters are not recorded"}


@pytest.fixture
def outputs(tmp_path):
    """Unpruned without an interval; cls, at 0.5 not judged and at 0.75 of unknown FLOPs; random at both ratios."""
    change_result(make_run(tmp_path, "none"), {"interval95": None})
    change_result(make_run(tmp_path, "cls", 0.5), {"score": None, "interval95": None, "metrics": {}})
    change_result(make_run(tmp_path, "cls", 0.75), UNCOUNTED)
    for ratio in (0.5, 0.75):
        make_run(tmp_path, "random", ratio)
    return tmp_path


def rows_of(outputs):
    (group,) = group_runs(find_runs([outputs])[0])
    return make_rows(group, group)


def result_of(outputs, name):
    (directory,) = outputs.glob(f"scenes/tiny/{name}-*")
    return json.loads((directory / "result.json").read_text()), directory


@pytest.mark.parametrize("style", ["table", "markdown"])
def test_the_table_has_words_and_dashes(outputs, style, capsys):
    assert compare([f"outputs={outputs}", f"format={style}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (unjudged,) = [line for line in lines if "not judged" in line]
    assert "cls" in unjudged
    (unpruned,) = [line for line in lines if "unpruned" in line and "/144" in line]
    assert "[" not in unpruned
    (uncounted,) = [line for line in lines if "cls" in line and "75 %" in line]
    assert uncounted.split().count("-") == 2 and "+" in uncounted  # nor was a decode step timed
    assert "*" not in uncounted


def test_machine_formats_have_null(outputs, capsys):
    runs = as_json(capsys, f"outputs={outputs}")["groups"][0]["runs"]
    assert [run["method"] for run in runs if run["score"] is None] == ["cls"]
    unjudged, uncounted = (run for run in runs if run["method"] == "cls")
    assert unjudged["relative_score"] is None and unjudged["pareto"] is False
    assert uncounted["flops_per_question"] is uncounted["flops_unpruned"] is None and uncounted["pareto"] is False
    assert uncounted["relative_score"] is not None and uncounted["score"] is not None


def test_a_chart_leaves_out_what_is_not_judged_and_needs_one_that_is_left(outputs, tmp_path):
    rows = [row for row in rows_of(outputs) if row.run.ratio != 0.75]
    draw_overview([rows], tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text()
    assert "random" in drawn and "cls" not in drawn
    with pytest.raises(UserError, match="no run has a score yet"):
        draw_overview([[row for row in rows if row.run.method == "cls"]], tmp_path / "b.svg")


def test_a_chart_has_what_is_not_counted_on_one_side(outputs, tmp_path):
    draw_overview([rows_of(outputs)], tmp_path / "some.svg")
    for path in outputs.glob("*/*/*"):
        change_result(path, UNCOUNTED)
    draw_overview([rows_of(outputs)], tmp_path / "none.svg")
    some, none = ((tmp_path / f"{name}.svg").read_text() for name in ("some", "none"))
    assert "cls" in some and "cls" in none and len(none) < len(some)


def test_the_summary_of_a_run_and_its_mirror(outputs):
    unjudged, directory = result_of(outputs, "cls-0.5")
    lines = dict(summary_lines(unjudged, None))
    assert lines["accuracy"].startswith("none yet") and "relative score" not in lines
    mirrored = summarise_result(unjudged, directory)
    assert "score" not in mirrored and "flops/total" in mirrored
    uncounted, directory = result_of(outputs, "cls-0.75")
    assert dict(summary_lines(uncounted, None))["FLOPs"] == "-  (the raters are not recorded)"
    assert not any(name.startswith("flops") for name in summarise_result(uncounted, directory))


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
