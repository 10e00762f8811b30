"""Runs whose FLOPs cannot be counted: '-' or null wherever the number would stand."""

from __future__ import annotations

import json

import pytest

from tests.results.synthetic import as_json, change_result, make_run
from vlmprune.cli.compare import compare
from vlmprune.loggers.wandb import summarise_result
from vlmprune.results.charts import draw_overview
from vlmprune.results.comparison import make_rows
from vlmprune.results.find import find_runs, group_runs
from vlmprune.results.summary import summary_lines

UNKNOWN = {"flops": None, "flops_unknown": "the raters are not recorded"}


@pytest.fixture
def outputs(tmp_path):
    """cls at 0.5 could not be counted, cls at 0.9 and random could."""
    make_run(tmp_path, "none")
    change_result(make_run(tmp_path, "cls", 0.5), UNKNOWN)
    make_run(tmp_path, "cls", 0.9)
    make_run(tmp_path, "random", 0.5)
    return tmp_path


@pytest.mark.parametrize("style", ["table", "markdown"])
def test_the_table_has_a_dash(outputs, style, capsys):
    assert compare([f"outputs={outputs}", f"format={style}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (unknown,) = [line for line in lines if "cls" in line and "50 %" in line]
    assert unknown.split().count("-") == 2 and "+" in unknown  # nor was a decode step timed
    assert "*" not in unknown


def test_machine_formats_have_null(outputs, capsys):
    runs = as_json(capsys, f"outputs={outputs}")["groups"][0]["runs"]
    (unknown,) = [run for run in runs if run["method"] == "cls" and run["ratio"] == 0.5]
    assert unknown["flops_per_question"] is unknown["flops_unpruned"] is None and unknown["pareto"] is False
    assert unknown["relative_score"] is not None and unknown["score"] is not None


def test_the_chart_has_it_on_one_side(outputs, tmp_path):
    (group,) = group_runs(find_runs([outputs])[0])
    draw_overview([make_rows(group, group)], tmp_path / "some.svg")
    for path in outputs.glob("*/*/*"):
        change_result(path, UNKNOWN)
    (group,) = group_runs(find_runs([outputs])[0])
    draw_overview([make_rows(group, group)], tmp_path / "none.svg")
    some, none = ((tmp_path / f"{name}.svg").read_text() for name in ("some", "none"))
    assert "cls" in some and "cls" in none and len(none) < len(some)


def test_the_summary_says_why(outputs):
    result = change_result(make_run(outputs, "cls", 0.75), UNKNOWN)
    assert dict(summary_lines(result, None))["FLOPs"] == "-  (the raters are not recorded)"


def test_the_mirror_leaves_them_out(outputs):
    path = make_run(outputs, "cls", 0.75)
    assert "flops/total" in summarise_result(json.loads((path / "result.json").read_text()), path)
    assert not any(name.startswith("flops") for name in summarise_result(change_result(path, UNKNOWN), path))
