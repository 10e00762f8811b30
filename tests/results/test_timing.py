"""Times that other work of the machine disturbed: marked in their row, explained in a note, believed nowhere."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from tests.results.synthetic import as_json, make_run
from vlmprune.cli.compare import compare
from vlmprune.results.comparison import make_labelled_rows
from vlmprune.results.curves import LATENCY, choose_line_styles, draw_panel, run_scores
from vlmprune.results.find import find_runs, group_runs
from vlmprune.results.summary import summary_lines
from vlmprune.results.timing import relative_time


def change_times(run: Path, part: str = "prefill", sides: tuple[str, ...] = ("pruned", "unpruned"), **factors: float):
    """Write the result of a run again with some of its times multiplied, and return it. factors: by name, median_ms."""
    result = json.loads((run / "result.json").read_text())
    for side in sides:
        for name, factor in factors.items():
            result["timings"]["latency"][side][part][name] *= factor
    (run / "result.json").write_text(json.dumps(result))
    return result


def change_environment(run: Path, **values: Any) -> None:
    result = json.loads((run / "result.json").read_text())
    result["environment"] |= values
    (run / "result.json").write_text(json.dumps(result))


@pytest.fixture
def runs(tmp_path: Path) -> dict[float, Path]:
    """Runs of cls by ratio, timed on an idle machine: the p90 is 1.2 times the median."""
    make_run(tmp_path, "none")
    return {ratio: make_run(tmp_path, "cls", ratio) for ratio in (0.5, 0.75, 0.9)}


def doubts(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str) -> dict[float | None, str | None]:
    (group,) = as_json(capsys, str(folder), *arguments)["groups"]
    return {row["ratio"]: row["timing_doubt"] for row in group["runs"]}


def test_quiet_times_have_their_spread_and_no_mark(runs, tmp_path, capsys):
    report = as_json(capsys, str(tmp_path), "ratio=0.5")
    (row,) = report["groups"][0]["runs"]
    assert row["latency_prefill_p90_ms"] == pytest.approx(1.2 * row["latency_prefill_ms"])
    assert row["latency_unpruned_prefill_p90_ms"] == pytest.approx(1.2 * row["latency_unpruned_prefill_ms"])
    assert row["latency_end_to_end_p90_ms"] == pytest.approx(1.2 * row["latency_end_to_end_ms"])
    assert set(doubts(capsys, tmp_path).values()) == {None}
    compare([str(tmp_path), "format=markdown"])
    out = capsys.readouterr().out
    assert "x)?" not in out and "other work" not in out


@pytest.mark.parametrize("side", ["pruned", "unpruned"])
@pytest.mark.parametrize(("factor", "marked"), [(1.24, False), (1.3, True)])  # 1.49 and 1.56 times the median
def test_a_p90_over_one_and_a_half_medians_is_marked(runs, tmp_path, capsys, side, factor, marked):
    change_times(runs[0.9], sides=(side,), p90_ms=factor)
    found = doubts(capsys, tmp_path)
    assert found == {None: None, 0.5: None, 0.75: None, 0.9: "p90 of prefill is 1.6x the median" if marked else None}
    compare([str(tmp_path), "format=markdown", "columns=method,ratio,prefill"])
    out = capsys.readouterr().out
    assert out.count("x)?") == marked and ("p90 up to 1.6x the median (cls 90 %; or" in out) == marked


@pytest.mark.parametrize(("factor", "marked"), [(1.19, False), (1.21, True)])
def test_unpruned_medians_that_disagree_mark_the_slower_runs(runs, tmp_path, capsys, factor, marked):
    change_times(runs[0.5], median_ms=factor, p90_ms=factor)
    change_times(runs[0.75], median_ms=3, p90_ms=3)
    words = "the unpruned prefill took {}x that of another run"
    expected = {None: None, 0.5: words.format("1.2") if marked else None, 0.75: words.format("3.0"), 0.9: None}
    assert doubts(capsys, tmp_path) == expected
    assert doubts(capsys, tmp_path, "ratio=0.75") == {0.75: words.format("3.0")}  # beside runs that are not shown
    compare([str(tmp_path)])
    out = capsys.readouterr().out
    assert ("up to 3.0x as slow as in another run (cls 50 %, cls 75 %)" in out) == marked
    slow = [runs[0.5], runs[0.75]] if marked else [runs[0.75]]
    assert f"while nothing else runs: vlmprune time {' '.join(map(str, slow))}\n" in out


def test_times_of_another_device_or_library_are_told_apart(runs, tmp_path, capsys):
    """`vlmprune time` may run elsewhere than the answers did: what counts for times is where they were taken."""
    result = change_times(runs[0.75], median_ms=3, p90_ms=3)
    latency = result["timings"]["latency"]
    latency["conditions"] = {"device": "cuda:0", "device_name": "GPU", "dtype": "float32", "attention": "sdpa"}
    latency["conditions"]["threads"] = 1
    latency["versions"] = {"torch": "2.14.0"}
    (runs[0.75] / "result.json").write_text(json.dumps(result))
    assert set(doubts(capsys, tmp_path).values()) == {None}
    compare([str(tmp_path)])
    out = capsys.readouterr().out
    assert 'device_name differs ("GPU", null): times do not compare' in out and "versions differ (torch)" in out


def test_another_device_is_no_doubt(runs, tmp_path, capsys):
    change_times(runs[0.75], median_ms=3, p90_ms=3)
    change_environment(runs[0.75], device="cuda")
    assert set(doubts(capsys, tmp_path).values()) == {None}
    compare([str(tmp_path)])
    assert "times do not compare" in capsys.readouterr().out


def test_both_reasons_are_one_note_in_every_format(runs, tmp_path, capsys):
    change_times(runs[0.9], median_ms=20, p90_ms=60)
    assert doubts(capsys, tmp_path)[0.9] == (
        "p90 of prefill is 3.6x the median; the unpruned prefill took 20.0x that of another run"
    )
    compare([str(tmp_path), "format=csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["ratio"] for row in rows if row["timing_doubt"]] == ["0.9"]
    for style in ("table", "markdown", "latex"):
        compare([str(tmp_path), f"format={style}", "columns=method,ratio,prefill"])
        out = capsys.readouterr().out
        assert out.count("did other work meanwhile") == 1 and out.count("x)?") == 1
    compare([str(tmp_path), f"html={tmp_path / 'page.html'}"])
    assert (tmp_path / "page.html").read_text().count("did other work meanwhile") == 1


def test_charts_are_of_times_relative_to_the_unpruned_model_of_the_same_run(runs, tmp_path, capsys):
    """A run that a busy machine made 20 times as long stays beside the others."""
    (group,) = group_runs(find_runs([tmp_path])[0])
    quiet = {run.ratio: relative_time(run) for run in group}
    assert quiet[None] == 100 and quiet[0.9] == pytest.approx(100 * (9 + 2.7) / (9 + 9.2))
    change_times(runs[0.5], part="end_to_end", median_ms=20)
    (group,) = group_runs(find_runs([tmp_path])[0])
    assert {run.ratio: relative_time(run) for run in group} == pytest.approx(quiet)
    rows = make_labelled_rows(group, group)
    axes = Figure().subplots()
    draw_panel(axes, rows, LATENCY, choose_line_styles(row.label for row in rows), run_scores(rows))
    (curve,) = (line for line in axes.lines if len(line.get_xdata()) == 3)
    assert list(curve.get_xdata()) == pytest.approx([quiet[0.5], quiet[0.75], quiet[0.9]])


def test_a_run_without_times_has_no_place_on_the_axis(tmp_path):
    make_run(tmp_path, "cls", 0.5, timings={"latency": None})
    make_run(tmp_path, "none", timings={"latency": None})
    assert [relative_time(run) for run in find_runs([tmp_path])[0]] == [None, None]


def test_results_without_a_p90_are_read(runs, tmp_path, capsys):
    for run in runs.values():
        result = json.loads((run / "result.json").read_text())
        for side in ("pruned", "unpruned"):
            for times in filter(None, result["timings"]["latency"][side].values()):
                del times["p90_ms"]
        (run / "result.json").write_text(json.dumps(result))
    assert set(doubts(capsys, tmp_path).values()) == {None}
    text = dict(summary_lines(result, None))
    assert text["prefill"] == "2.7 ms median, unpruned 9.2 ms: 3.41x  (batch 1, 16 questions)"


def test_a_run_says_itself_that_its_times_are_doubtful(runs):
    quiet = json.loads((runs[0.9] / "result.json").read_text())
    assert dict(summary_lines(quiet, None))["prefill"].startswith("2.7 ms median (p90 3.24), unpruned 9.2 ms: 3.41x")
    assert not any("TRUSTED" in text for _, text in summary_lines(quiet, None))
    busy = change_times(runs[0.9], sides=("unpruned",), p90_ms=2)
    lines = [text for _, text in summary_lines(busy, None)]
    assert any(line.startswith("TIMES NOT TO BE TRUSTED: the p90 of prefill is 2.4x the median") for line in lines)
    ended = change_times(runs[0.5], part="end_to_end", p90_ms=9)  # answers differ in length
    assert not any("TRUSTED" in text for _, text in summary_lines(ended, None))
