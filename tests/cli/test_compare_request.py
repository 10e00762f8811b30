"""Arguments of `vlmprune compare`, and its line about those that it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.results.synthetic import as_json, make_run
from vlmprune.cli.compare import compare
from vlmprune.errors import UserError
from vlmprune.results.sweep_record import JobRecord, SweepRecord


@pytest.mark.parametrize(
    "argument, said",
    [
        ("charts=x.png", "a folder for all charts"),
        ("html=", "html= is empty"),
        ("--all", "allowed: --hard, --help, --published"),
        ("method=clss", "did you mean 'cls'"),
        ("ratio=0.3", "there are: 0.5, 0.9"),
        ("device=cuda", "there are: cpu"),
    ],
)
def test_bad_arguments_are_one_clear_line(outputs: Path, argument: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        compare([f"outputs={outputs}", argument])
    assert "\n" not in str(caught.value)


def test_nothing_to_compare_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"vlmprune run method=cls ratio=0\.95"):
        compare([f"outputs={tmp_path / 'missing'}"])
    make_run(tmp_path, "cls", 0.5, finished=False)
    with pytest.raises(UserError, match="1 not finished"):
        compare([f"outputs={tmp_path}"])


def test_a_benchmark_may_be_called_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "cls", 0.5, benchmark="reference")
    assert len(as_json(capsys, f"outputs={tmp_path}")["groups"]) == 1


def test_several_filters_of_one_key_unite(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (group,) = as_json(capsys, str(outputs), "method=cls", "method=fastv", "ratio=0.5")["groups"]
    assert [row["method"] for row in group["runs"]] == ["cls", "fastv"]


def test_a_column_named_twice_is_shown_once(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare([str(outputs), "columns=method,method,ratio", "format=markdown"]) == 0
    assert "| method | ratio |\n" in capsys.readouterr().out


def test_filters_hold_for_what_is_not_shown(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A job's values are known, and of a directory what its name says; anything else is not held against it."""
    jobs = [
        JobRecord(f"method={name}", [name], "tiny", name, "scenes", 0.5, None, "failed", "boom")
        for name in ("scm", "pool")
    ]
    SweepRecord("sweep-1", [], "inprocess", "2026", "2026", jobs).write(outputs)
    unfinished = as_json(capsys, str(outputs))["unfinished"]
    assert len(unfinished) == 3
    assert as_json(capsys, str(outputs), "method=cls")["unfinished"] == []
    assert len(as_json(capsys, str(outputs), "model=tiny", "benchmark=scenes", "device=cpu")["unfinished"]) == 3
    SweepRecord("sweep-2", [], "inprocess", "2027", "2027", [replace(jobs[1], model="llava")]).write(outputs)
    (uniform,) = as_json(capsys, str(outputs), "model=tiny", "method=cls,uniform")["unfinished"]
    assert "uniform-0.5" in uniform["path"]
