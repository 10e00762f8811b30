"""Compiled cases beside plain ones; parts between products compiled with torch's own tracing."""

from __future__ import annotations

import pytest

from tests.speed.conftest import QUICK
from tests.speed.test_command import the_json
from vlmprune.cli import main
from vlmprune.speed import bench


@pytest.mark.slow
def test_compiled_rows(ceiling, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "BACKEND", "eager")
    cases = ["method=none,cls,fastv", "ratio=0.9", "compile=false,true", "batch_size=1"]
    assert main(["speed", *QUICK, *cases, f"outputs={tmp_path}"]) == 0
    rows = {row["label"]: row for row in the_json(tmp_path)["rows"]}
    assert list(rows) == ["unpruned", "unpruned compiled", "cls", "cls compiled", "fastv", "fastv compiled"]
    assert rows["fastv compiled"]["state"] == "not applicable"
    assert "compile=true: fastv keeps other tokens for every question" in capsys.readouterr().out
    for name in ("unpruned", "cls"):
        plain, compiled = rows[name], rows[f"{name} compiled"]
        for same in ("tokens", "flops", "kv_cache_bytes", "bytes_per_step", "flops_ratio"):
            assert plain[same] == compiled[same]
        ms = {part: value["median_ms"] for part, value in compiled["ms"].items()}
        assert ms["vision"] > 0 and ms["prefill"] > 0 and ms["decode_per_token"] > 0


@pytest.mark.slow
def test_with_inductor(ceiling, tmp_path):
    cases = ["method=cls", "ratio=0.9", "compile=false,true", "batch_size=1"]
    assert main(["speed", *QUICK, *cases, "chart=none", f"outputs={tmp_path}"]) == 0
    assert [row["state"] for row in the_json(tmp_path)["rows"]] == ["measured"] * 3


def test_a_stored_result_is_shown_again(ceiling, tmp_path, capsys):
    assert (
        main(["speed", *QUICK, "method=cls", "ratio=0.9", "batch_size=1", f"json={tmp_path}/a.json", "chart=none"]) == 0
    )
    first = capsys.readouterr().out
    assert not list(tmp_path.glob("*.png")) and "chart" not in first.splitlines()[-1]
    assert main(["speed", f"from={tmp_path}/a.json"]) == 0
    again = capsys.readouterr().out
    table = [line for line in again.splitlines() if " cls " in line]
    assert table and set(table) <= set(first.splitlines())
    assert (tmp_path / "a.png").stat().st_size > 10_000
