"""The comparison as printed: its columns and fields, escaped, and legible."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest

from tests.results.synthetic import as_json, change_result, make_outputs, make_run
from vlmprune.cli.compare import compare
from vlmprune.errors import UserError
from vlmprune.results.columns import COLUMNS, KEYS


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return make_outputs(tmp_path)


@pytest.mark.parametrize(
    ("width", "gone"),
    [
        (80, "vs unpruned (p), vs random (p), prefill ms, decode ms, end to end ms, KV MB, peak MB"),
        (100, "vs unpruned (p), vs random (p), decode ms, end to end ms, KV MB, peak MB"),
        (140, "end to end ms, KV MB, peak MB"),
    ],
)
def test_narrow_terminal_drops_the_tests_before_layer_avg_and_relative_and_says_so(
    outputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, gone: str
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    compare([str(outputs)])
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert f"left out for lack of width: {gone} (format=csv has everything)" in " ".join(out.split()) and "…" not in out
    # Sentences too; not a command, which is copied, or the name of a folder.
    lines = [line for line in out.splitlines() if not line.startswith(("  vlmprune ", f"- {outputs}"))]
    assert max(map(len, lines)) <= width
    assert "median of a whole answer" not in out  # the legend is of what is shown


def test_json_and_csv_have_every_field_and_json_says_what_they_mean(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = as_json(capsys, str(outputs))
    assert all(row.keys() == report["legend"].keys() for row in report["groups"][0]["runs"])
    assert all(report["legend"].values())
    row = next(row for row in report["groups"][0]["runs"] if row["method"] == "cls" and row["ratio"] == 0.5)
    assert row["latency_end_to_end_ms"] == pytest.approx(9 + 2 + 0.05 * 72) and row["kv_cache_mb"] == 0.001
    assert row["latency_decode_per_token_ms"] is None and row["peak_memory_mb"] == 900
    assert row["latency_first_token_ms"] is None  # recorded by newer versions
    compare([str(outputs), "format=csv"])
    captured = capsys.readouterr()
    first, *others = csv.DictReader(io.StringIO(captured.out))
    assert len(others) == 6 and "uniform-0.5" in captured.err
    assert report["legend"].keys() <= first.keys() and first["comparable_prompt"] == "p"


def test_columns_are_chosen_and_explained(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare([str(outputs), "columns=method,score,kv_cache", "format=markdown"])
    out = capsys.readouterr().out
    assert "| method | score % [95 %] | KV MB |" in out and "keys and values of one prompt" in out
    assert "GFLOPs" not in out


@pytest.mark.parametrize("other", ["format=json", "format=csv", "--hard", "--published"])
def test_columns_are_refused_where_they_change_nothing(outputs: Path, other: str) -> None:
    with pytest.raises(UserError, match="has its own columns"):
        compare([str(outputs), "columns=method,score", other])


def test_every_column_has_a_meaning() -> None:
    assert [key for key, column in COLUMNS.items() if not column.about] == ["method"]


def test_flops_have_the_unit_that_suits_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_run(tmp_path, "cls", 0.5)
    change_result(path, {"flops": {"total": 8.1e12, "unpruned_total": 9e12}})
    compare([str(tmp_path), "columns=method,flops"])
    out = capsys.readouterr().out
    assert "TFLOPs" in out and "8.10" in out and "GFLOPs" not in out


def test_latex_is_balanced_and_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "cls", 0.5, settings={"start_layer": "50%_{x}$&#~^\\\\"})
    make_run(tmp_path, "cls", 0.5, seed=1, settings={"start_layer": 2})
    make_run(tmp_path, "random", 0.5)
    compare([str(tmp_path), "format=latex"])
    captured = capsys.readouterr()
    code = [line for line in captured.out.splitlines() if not line.startswith("%")]
    text = "\n".join(code)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    bare = re.sub(r"\\[\\{}$&%#_]", "", text)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert not re.search(r"[#_~^]", bare) and "%" not in bare.replace("{!}{%", "")
    rows = [line for line in code if line.endswith(r"\\")]
    columns = len(re.search(r"@\{\}([lr]+)@", text)[1])
    assert len(rows) == 4 and {re.sub(r"\\&", "", row).count("&") for row in rows} == {columns - 1}


@pytest.mark.parametrize("style", ["table", "markdown", "latex"])
def test_recorded_names_move_no_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str], style: str) -> None:
    make_run(tmp_path, "cls", 0.5, settings={"start_layer": "1\n\x1b[2Jx[/bold]"}, benchmark="b\x1b")
    make_run(tmp_path, "cls", 0.5, seed=1, settings={"start_layer": 2}, benchmark="b\x1b")
    compare([str(tmp_path), f"format={style}"])
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    text = captured.out.replace("{[}", "[").replace("\\textbackslash{}", "\\").replace("\\\\n", "\\n")
    rows = [line for line in text.splitlines() if "[2Jx[/bold]" in line.replace("\\<", "<") and "72.0" in line]
    assert len(rows) == 1 and "1\\n" in rows[0]


def test_latex_has_a_selection_of_columns_that_can_be_read(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def titles(*arguments: str) -> str:
        compare([str(outputs), "format=latex", *arguments])
        return capsys.readouterr().out.partition("\\toprule\n")[2].partition("\n")[0].strip()

    assert (
        titles() == r" & method & ratio & layer avg & score \% {[}95 \%] & relative & vs random (p) & GFLOPs \\".strip()
    )
    assert titles("columns=method,kv_cache") == r"method & KV MB \\"
    assert titles(f"columns={','.join(KEYS)}").count("&") == len(KEYS) - 1


def test_settings_that_differ_are_columns_of_csv_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, settings in enumerate(({"k": 2, "order": "spatial", "same": 1}, {"k": [3, 4], "order": None, "same": 1})):
        make_run(tmp_path, "fastv", 0.5, seed=seed, settings=settings)
    make_run(tmp_path, "cls", 0.5, settings={"k": 7, "other": 1})
    report = as_json(capsys, str(tmp_path))
    rows = report["groups"][0]["runs"]
    names = {name for name in rows[0] if name.startswith("setting_")}
    assert names == {"setting_k", "setting_order"} and names <= report["legend"].keys()
    assert [row["setting_k"] for row in rows] == [7, 2, "[3, 4]"]
    assert [row["setting_order"] for row in rows] == [None, "spatial", None]
    compare([str(tmp_path), "format=csv"])
    assert [row["setting_k"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))] == ["7", "2", "[3, 4]"]


def make_fastv(outputs: Path) -> None:
    """Runs of FastV that differ in two settings, and one of another method that has one of these."""
    for number, (k, order) in enumerate(((2, "spatial"), (3, "by_score"))):
        make_run(outputs, "fastv", 0.5, seed=number, settings={"k": k, "keep_order": order, "same": 1})
    make_run(outputs, "cls", 0.5, settings={"k": 7})


@pytest.mark.parametrize("style", ["table", "markdown", "latex"])
def test_settings_that_differ_are_columns_and_the_name_is_short(tmp_path: Path, capsys: Any, style: str) -> None:
    make_fastv(tmp_path)
    compare([str(tmp_path), f"format={style}"])
    out = capsys.readouterr().out.replace(" & ", " ").replace("\\_", "_")
    rows = [re.sub(r"\$\\ast\$|\\\*|[*|]", " ", line).split() for line in out.splitlines()]
    (head,) = [row for row in rows if row[:4] == ["method", "k", "keep_order", "ratio"]]
    fastv = [row[:3] for row in rows if row[:1] == ["fastv"]]
    assert fastv == [["fastv", "2", "spatial"], ["fastv", "3", "by_score"]]
    assert any(row[:2] == ["cls", "50"] for row in rows)  # nothing about it differs
    assert "setting of fastv, in which runs differ" in " ".join(out.split())
    assert "same" not in head


def test_the_page_has_them_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_fastv(tmp_path)
    compare([str(tmp_path), f"html={tmp_path / 'report.html'}"])
    page = (tmp_path / "report.html").read_text()
    assert "<button>keep_order</button>" in page and re.search(r'data-sort="by_score">by_score</td>', page)


def test_chosen_columns_tell_rows_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_fastv(tmp_path)
    compare([str(tmp_path), "columns=method,score", "format=markdown"])
    assert "| method | k | keep_order | score % [95 %] |" in capsys.readouterr().out


def test_where_there_is_no_room_for_them_they_are_part_of_the_name(
    tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    make_fastv(tmp_path)
    monkeypatch.setenv("FORCE_COLOR", "1")
    lines = {}
    for width in (80, 160):
        monkeypatch.setenv("COLUMNS", str(width))
        compare([str(tmp_path)])
        lines[width] = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    narrow, wide = lines[80], lines[160]
    assert any(re.search(r"method +k +keep_order +ratio", line) for line in wide)
    at = next(number for number, line in enumerate(narrow) if "fastv k=3" in line)
    assert "keep_order=by_score" in narrow[at] + narrow[at + 1] and "relative" in " ".join(narrow)
    assert not any("left out" in line and "keep_order" in line for line in narrow)
    monkeypatch.setenv("COLUMNS", "30")  # rows as lines of text
    compare([str(tmp_path)])
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "fastv k=3 keep_order=by_score" in " ".join(out.split()) and "keep_order: by_score" not in out


def test_the_luckiest_seed_has_no_star(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seeds score 50 and 90 %, 70 in the mean: cls with 80 at the same FLOPs is better, with 60 it is not."""
    for seed, score in ((1, 0.5), (2, 0.9)):
        change_result(make_run(tmp_path, "random", 0.5, seed=seed, settings={"seed": seed}), {"score": score})
    other = make_run(tmp_path, "cls", 0.5, settings={"keep_order": "spatial"})
    for score, stars in ((0.8, [True, False]), (0.6, [False, True])):
        change_result(other, {"score": score})
        assert [row["pareto"] for row in as_json(capsys, str(tmp_path))["groups"][0]["runs"]] == stars
