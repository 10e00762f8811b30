"""References of a run, wherever they lie; the order of runs; and the line about a missing reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.results.synthetic import as_json, make_outputs, make_run
from vlmprune.cli.compare import compare
from vlmprune.results.comparison import find_random_references
from vlmprune.results.find import find_runs, group_runs


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return make_outputs(tmp_path)


def test_a_run_named_alone_has_its_references_beside_it(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (group,) = as_json(capsys, str(next(outputs.glob("scenes/tiny/cls-0.9-*"))))["groups"]
    (row,) = group["runs"]
    assert row["relative_score"] is not None and row["versus_random"] is not None


def test_a_folder_given_by_two_paths_counts_once(outputs: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(outputs)
    (group,) = as_json(capsys, "scenes", str(outputs / "scenes"), "../" + outputs.name)["groups"]
    assert len(group["runs"]) == 7


def test_runs_alike_but_for_a_setting_are_sorted_by_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, k in enumerate((10, 3, 2)):
        make_run(tmp_path, "fastv", 0.5, seed=number, settings={"k": k})
    labels = [row["label"] for row in as_json(capsys, str(tmp_path))["groups"][0]["runs"]]
    assert labels == ["fastv k=2", "fastv k=3", "fastv k=10"]


def test_the_missing_random_run_has_the_amount_that_was_asked_for(tmp_path: Path, capsys: Any) -> None:
    """Where that comes to the same tokens, so that it is the run that `sweep` adds; FastV's first layers see all."""
    for method in ("cls", "fastv"):
        make_run(tmp_path, method, 0.95)
    assert compare([str(tmp_path), "method=cls"]) == 0
    assert ": vlmprune run method=random ratio=0.95 outputs=o" in capsys.readouterr().out
    assert compare([str(tmp_path)]) == 0
    assert ": vlmprune sweep method=random ratio=0.95,0.6343 baselines=false" in capsys.readouterr().out


def test_random_at_the_same_positions_is_preferred(tmp_path: Path) -> None:
    for number, (method, positions) in enumerate([("cls", "keep"), ("random", "keep"), ("random", "renumber")]):
        path = make_run(tmp_path, method, 0.5, seed=number)
        config = json.loads((path / "config.yaml").read_text())
        (path / "config.yaml").write_text(json.dumps(config | {"positions": positions}))
    (group,) = group_runs(find_runs([tmp_path])[0])
    cls, keep, renumber = group
    assert find_random_references(cls, group) == [keep]
    assert find_random_references(cls, [cls, renumber]) == [renumber]
