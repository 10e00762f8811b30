"""`vlmprune compare` on made-up run directories: grouping, references, formats, filters and damaged folders."""

from __future__ import annotations

import csv
import io
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


def by_name(group: dict[str, Any]) -> dict[tuple[str, float | None], dict[str, Any]]:
    return {(row["label"], row["ratio"]): row for row in group["runs"]}


def test_rows_are_sorted_and_compared_within_the_group(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = as_json(capsys, str(outputs))
    (group,) = report["groups"]
    assert [(row["method"], row["ratio"]) for row in group["runs"]] == [
        ("none", None),
        ("cls", 0.5),
        ("cls", 0.9),
        ("fastv", 0.5),
        ("fastv", 0.9),
        ("random", 0.5),
        ("random", 0.9),
    ]
    rows = by_name(group)
    unpruned, cls, chance = rows["none", None], rows["cls", 0.9], rows["random", 0.9]
    assert unpruned["relative_score"] == 1 and unpruned["versus_random"] is None
    assert cls["relative_score"] == pytest.approx(cls["score"] / unpruned["score"])
    assert cls["versus_random"] == pytest.approx(cls["score"] - chance["score"])
    assert 0 < cls["p_corrected"] < 0.05 and cls["versus_random_low"] > 0
    assert cls["prefill_speed_up"] == pytest.approx(9.2 / 2.7)
    assert chance["versus_random"] is None and unpruned["prefill_speed_up"] is None
    # FastV's first two layers see every token: random at its layer-averaged tokens was not run.
    assert rows["fastv", 0.9]["versus_random"] is None
    # fastv at 0.9 costs more than cls at 0.9 and scores less
    assert cls["pareto"] and not rows["fastv", 0.9]["pareto"]
    (unfinished,) = report["unfinished"]
    assert "uniform-0.5" in unfinished["path"] and "not finished, 320 questions answered" in unfinished["reason"]


def test_p_values_are_corrected_over_what_is_tested(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = by_name(as_json(capsys, str(outputs), "method=cls", "ratio=0.9")["groups"][0])["cls", 0.9]["p_corrected"]
    two = by_name(as_json(capsys, str(outputs), "method=cls")["groups"][0])["cls", 0.9]["p_corrected"]
    assert two == pytest.approx(2 * one)


def test_seeds_of_random_count_as_their_mean(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(outputs, "random", 0.9, seed=1, settings={"seed": 1})
    rows = by_name(as_json(capsys, str(outputs))["groups"][0])
    chances = [row["score"] for (name, ratio), row in rows.items() if name.startswith("random") and ratio == 0.9]
    assert len(chances) == 2 and ("random seed=1", 0.9) in rows
    assert rows["cls", 0.9]["versus_random"] == pytest.approx(rows["cls", 0.9]["score"] - sum(chances) / 2)


def test_runs_of_one_method_are_told_apart_by_their_settings(tmp_path: Path, capsys: Any) -> None:
    make_run(tmp_path, "fastv", 0.5, settings={"k": 2, "keep_order": "spatial"})
    make_run(tmp_path, "fastv", 0.5, seed=1, settings={"k": 3, "keep_order": "spatial"})
    assert {name for name, _ in by_name(as_json(capsys, str(tmp_path))["groups"][0])} == {"fastv k=2", "fastv k=3"}


def test_without_references_there_are_dashes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "cls", 0.9, timings={"latency": None, "kv_cache_bytes": None})
    assert compare([f"outputs={tmp_path}"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("*  cls")]
    assert line.split()[2:4] == ["90", "%"] and line.split()[-1] == "-" and line.count(" -") == 4
    assert "14/144" in line


@pytest.mark.parametrize(
    "change",
    [
        {"comparable": {"subset": "limit=100,seed=0"}},
        {"comparable": {"dtype": "float16"}},
        {"model": "llava"},
        {"benchmark": "gqa"},
    ],
)
def test_what_cannot_be_compared_gets_its_own_table(
    outputs: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    make_run(outputs, "cls", 0.75, **change)
    assert compare([str(outputs)]) == 0
    out = capsys.readouterr().out
    name, value = next(iter(change.items()))
    if isinstance(value, dict):
        name, value = next(iter(value.items()))
    assert "cannot all be compared" in out
    assert any(line.startswith(f"  {name}") and value in line for line in out.splitlines())
    report = as_json(capsys, str(outputs))
    assert sorted(len(group["runs"]) for group in report["groups"]) == [1, 7]
    (alone,) = next(group["runs"] for group in report["groups"] if len(group["runs"]) == 1)
    assert alone["relative_score"] is None and alone["versus_random"] is None


def test_one_group_says_nothing_about_comparing(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare([str(outputs)])
    assert "cannot all be compared" not in capsys.readouterr().out


def test_other_environments_are_pointed_at(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(outputs, "cls", 0.25, environment={"device": "cuda", "versions": {"torch": "2.14.0"}})
    compare([str(outputs)])
    out = capsys.readouterr().out
    assert 'device differs ("cpu", "cuda"): times do not compare' in out and "library versions differ (torch)" in out


@pytest.mark.parametrize(
    "content, said",
    [
        ("{", "cannot be read"),
        ("[]", "not as expected"),
        ('{"schema": 1}', "not as expected (KeyError: 'answers')"),
        ('{"schema": 9}', "has schema 9"),
        ('{"schema": 1, "answers": [], "timings": 1}', "not as expected (TypeError"),
    ],
)
def test_damaged_directories_are_named_never_fatal(
    outputs: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    broken = make_run(outputs, "vtc_cls", 0.5)
    (broken / "result.json").write_text(content)
    (make_run(outputs, "cls", 0.25) / "predictions.jsonl").write_text("not json\n")
    assert compare([str(outputs)]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if str(broken) in line and said in line]
    assert "25 %" in out  # without its predictions a run is shown, without a comparison


def test_markdown_and_csv(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare([str(outputs), "format=markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 7 and len({line.count("|") for line in table}) == 1
    assert "### tiny on scenes · accuracy · all 320 questions · float32" in lines

    assert compare([str(outputs), "format=csv"]) == 0
    captured = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(captured.out)))
    assert len(rows) == 7 and rows[1]["method"] == "cls" and float(rows[1]["tokens_kept"]) == 72
    assert rows[1]["comparable_subset"] == "all" and "uniform-0.5" in captured.err


def test_filters(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (group,) = as_json(capsys, str(outputs), "method=cls,fastv", "ratio=.90")["groups"]
    assert [(row["method"], row["ratio"]) for row in group["runs"]] == [("cls", 0.9), ("fastv", 0.9)]
    assert group["runs"][0]["relative_score"] is not None  # references need not be shown


def test_single_directories_may_be_named(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(next(outputs.glob(f"scenes/tiny/{name}-*"))) for name in ("none", "cls-0.9")]
    (group,) = as_json(capsys, *paths, paths[0])["groups"]
    assert [row["method"] for row in group["runs"]] == ["none", "cls"]


@pytest.mark.parametrize(
    "argument, said",
    [
        ("metod=cls", "did you mean 'method'"),
        ("format=tabel", "did you mean 'table'"),
        ("chart=x.jpg", "ends in .png or .svg"),
        ("nowhere", "no such folder"),
        ("--all", "not an option"),
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


def test_narrow_terminal_drops_columns_and_says_so(
    outputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    compare([str(outputs)])
    out = capsys.readouterr().out
    assert "left out for lack of width: end to end ms, layer avg" in out and "…" not in out
