"""A judged benchmark from run to score: with a judge at once, without one first and judged later."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks.judge_server import judge_server
from tests.runs import run
from vlmprune.cli import main
from vlmprune.config.settings import compose_run
from vlmprune.results.runs import read_run

QUICK = ("method=none", "latency_samples=0", "logger=none", "limit=4", "benchmark.max_new_tokens=2")


@pytest.fixture
def judge():
    with judge_server(lambda *_: "0.5") as server:
        yield [f"judge.base_url={server.url}", "judge.model=half"]


def settings(overrides, tmp_path):
    return [*overrides("mmvet"), *QUICK, f"outputs={tmp_path}"]


def rows(directory):
    return [json.loads(line) for line in (directory / "predictions.jsonl").read_text().splitlines()]


def test_with_a_judge_the_run_has_a_score(overrides, tmp_path, judge):
    result = run(compose_run([*settings(overrides, tmp_path), *judge]))
    assert result["answers"]["score"] == 0.5 and result["answers"]["interval95"] == [0.5, 0.5]
    assert result["judge"]["model"] == "half"
    (directory,) = (file.parent for file in tmp_path.rglob("result.json"))
    assert json.loads((directory / "result.json").read_text()) == result
    judged = rows(directory)
    assert [row["extra"]["verdict"] for row in judged] == [{"score": 0.5}] * 4
    assert main(["score", str(directory)]) == 0  # from the files alone: what the run left is what scoring gives
    again = json.loads((directory / "result.json").read_text())
    assert again | {"rescored": result["rescored"]} == result
    assert rows(directory) == judged


def test_without_one_it_ends_with_answers_and_is_judged_later(overrides, tmp_path, judge, capsys):
    result = run(compose_run(settings(overrides, tmp_path)))
    assert result["answers"]["score"] is None
    assert list(tmp_path.rglob("mmvet_submission.json"))
    (directory,) = [file.parent for file in tmp_path.rglob("result.json")]
    assert read_run(directory).score is None
    for style in ("table", "markdown", "csv", "json"):
        assert main(["compare", f"outputs={tmp_path}", f"format={style}"]) == 0
    assert capsys.readouterr().out.count("not judged") == 2
    assert main(["compare", f"outputs={tmp_path}", f"chart={tmp_path}/a.png"]) == 2

    assert main(["score", str(directory), *judge]) == 0
    assert read_run(directory).score == 0.5


def test_a_finished_run_is_judged_when_a_judge_is_given(overrides, tmp_path, judge):
    run(compose_run(settings(overrides, tmp_path)))
    assert run(compose_run([*settings(overrides, tmp_path), *judge]))["answers"]["score"] == 0.5
