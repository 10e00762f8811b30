"""The end of a run as a person reads it, from a made-up result; and the schema of a real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.documented import fields, undocumented
from tests.results.synthetic import make_run
from tests.runs import run
from vlmprune.config.settings import compose_run
from vlmprune.results.runs import Run, read_run
from vlmprune.results.schema import Answers, Flops, Result, Timings
from vlmprune.results.summary import device_line, show_summary, suggestion, summary_lines

# Of judged benchmarks, of what was scored again, of what has no FLOPs, of what was timed again.
SOMETIMES = {"judge", "rescored", "flops_unknown", "earlier_latency"}


def result_of(path: Path) -> dict[str, Any]:
    return json.loads((path / "result.json").read_text())


def test_a_batch_size_that_did_not_fit_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_run(tmp_path, "cls", 0.9)
    result = result_of(path)
    assert "80 questions/s in batches of 32, peak memory 900 MB" in dict(summary_lines(result, None))["evaluation"]
    result["timings"]["evaluation"]["batch_size"] = {"asked": 32, "used": 4}
    show_summary(result, None, path, None)
    shown = capsys.readouterr().out
    assert "cls at 90.0 % reduction · tiny on scenes" in shown
    assert "in batches of 4 (32 ran out of memory)" in shown and f"files  {path}\n" in shown


def test_device_and_cost_are_told(tmp_path: Path) -> None:
    result = result_of(make_run(tmp_path, "cls", 0.9))
    lines = dict(summary_lines(result, None))
    assert lines["device"] == "cpu, float32, sdpa attention"
    assert lines["visual tokens"].endswith("averaged over the decoder's layers, which decides the cost")
    result["environment"] |= {"device": "cuda", "device_name": "NVIDIA H100", "devices": 4}
    assert device_line(result["environment"], "!") == "4 x NVIDIA H100 (cuda)!, float32, sdpa attention"
    result["timings"]["samples_per_s"] = 0.31
    assert summary_lines(result, None)[-2][1].startswith("0.31 questions/s in batches")
    result["environment"] = {}  # of an older result
    assert "device" not in dict(summary_lines(result, None))


def test_an_amount_that_removes_nothing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Inside the language model `keep` is of a prompt's tokens, so that no model's size refuses a large one."""
    quick = ["limit=1", "latency_samples=0", "logger=none", "show.samples=0", "device=cpu", f"outputs={tmp_path}"]
    for asked, told in (("keep=145", True), ("keep=143", False), ("ratio=0", False)):
        run(compose_run(["method=fastv", asked, *quick]))
        assert (f"NOTHING WAS REMOVED: with {asked} every question" in capsys.readouterr().out) is told


def test_what_to_run_next_was_not_run_yet(tmp_path: Path) -> None:
    bare = make_run(tmp_path, "none")
    assert suggestion(result_of(bare), None, bare) == "vlmprune run method=cls ratio=0.95 outputs=o"
    make_run(tmp_path, "cls", 0.95, comparable={"subset": "limit=4"})  # which is of other questions
    assert suggestion(result_of(bare), None, bare).startswith("vlmprune run method=cls")
    cls = make_run(tmp_path, "cls", 0.95, seed=1)
    assert suggestion(result_of(bare), None, bare).startswith("vlmprune sweep method=cls,fastv,uniform ratio=0.5")
    assert suggestion(result_of(cls), None, cls).startswith("vlmprune run method=none outputs=o ")


def test_the_schema_has_every_field_of_a_real_result_and_no_other(tmp_path: Path) -> None:
    quick = ["limit=2", "latency_samples=1", "logger=none", "show.samples=0", "device=cpu", f"outputs={tmp_path}"]
    result = run(compose_run(["method=cls", "ratio=0.9", *quick]))
    assert result.keys() == fields(Result) - SOMETIMES
    assert result["answers"].keys() == fields(Answers) - SOMETIMES
    assert result["timings"].keys() == fields(Timings) - SOMETIMES
    assert result["answers"]["flops"].keys() == fields(Flops)
    assert undocumented(result, Result) == []
    assert undocumented({"answers": {"tokens": {"total": 1, "lost": 2}}, "new": 3}, Result) == [
        "answers.tokens.lost",
        "new",
    ]
    (path,) = tmp_path.glob("scenes/tiny/cls-*")
    assert isinstance(read_run(path), Run)
    rows = map(json.loads, (path / "predictions.jsonl").read_text().splitlines())
    first, second = sorted(rows, key=lambda row: "prompt_template" not in row)
    assert first["prompt_template"] == result["prompt_template"] == "USER: <image>\n{prompt} ASSISTANT:"
    assert first["prompt"] == first["question"] and second["prompt"] == second["question"]  # scenes has no suffix
    assert "prompt_template" not in second
