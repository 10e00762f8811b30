"""What `vlmprune compare` accepts, and what it says of the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.report.synthetic import make_run
from vlmprune.errors import UserError
from vlmprune.report.compare import compare


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """The unpruned run, random and two methods at two ratios, and one that was interrupted."""
    make_run(tmp_path, "none")
    for method in ("random", "cls", "fastv"):
        for ratio in (0.5, 0.9):
            make_run(tmp_path, method, ratio)
    make_run(tmp_path, "uniform", 0.5, finished=False)
    return tmp_path


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert compare([*arguments, "format=json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "argument, said",
    [
        ("metod=cls", "did you mean 'method'"),
        ("format=tabel", "did you mean 'table'"),
        ("chart=x.jpg", "ends in .png or .svg"),
        ("charts=x.png", "a folder for all charts"),
        ("html=x", "ends in .html or .htm"),
        ("html=", "html= is empty"),
        ("columns=method,scor", "did you mean 'score'"),
        ("nowhere", "no such folder"),
        ("--all", "not an option"),
        ("--hart", "did you mean '--hard'"),
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


def test_reference_results_are_read_when_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "reference", "cls", 0.5)
    with pytest.raises(UserError, match=f"vlmprune compare {tmp_path / 'reference'}"):
        compare([f"outputs={tmp_path}"])
    assert len(as_json(capsys, str(tmp_path / "reference"))["groups"]) == 1
