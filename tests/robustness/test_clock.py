"""Clocks that stand still, go back or jump: no number of a result is nan, infinite or negative for it, nothing ends."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.speed.conftest import QUICK
from vlmprune.cli import main
from vlmprune.speed import bench

CLOCKS: dict[str, Callable[[], Callable[[], float]]] = {
    "stands still": lambda: lambda: 1000.0,
    "is zero": lambda: lambda: 0.0,
    "goes back": lambda: map(float, itertools.count(10**6, -1)).__next__,
    "jumps": lambda: itertools.cycle([0.0, 1e9, 5.0, 1e12]).__next__,
}


def stop(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Replace what our code asks for the time. Waiting on threads has the real one, in C or by its own name."""
    for function in ("time", "perf_counter", "monotonic"):
        monkeypatch.setattr(time, function, CLOCKS[name]())


def check(outputs: Path) -> dict:
    """result.json of the only run, which is JSON that others read, and whose times are not below 0."""
    (file,) = outputs.rglob("result.json")
    result = json.loads(file.read_text(), parse_constant=lambda constant: pytest.fail(f"{constant} in {file}"))

    def negative(value: object, where: str) -> list[str]:
        if isinstance(value, dict):
            return [name for key, inner in value.items() for name in negative(inner, f"{where}.{key}")]
        return [where] if isinstance(value, int | float) and value < 0 else []

    assert negative(result["timings"], "timings") == []
    return result


@pytest.mark.parametrize(
    "name", ["stands still", *(pytest.param(name, marks=pytest.mark.slow) for name in list(CLOCKS)[1:])]
)
def test_a_run(name, small, tmp_path, monkeypatch, capsys):
    arguments = ["run", *(each for each in small if not each.startswith("latency")), "latency_samples=2"]
    with monkeypatch.context() as patched:
        stop(patched, name)
        assert main([*arguments, f"outputs={tmp_path}"]) == 0, capsys.readouterr().err
    result = check(tmp_path)
    if name == "stands still":
        assert result["timings"]["evaluation_s"] == 0 and result["timings"]["samples_per_s"] is None
    for command in ("compare", f"compare format=json chart={tmp_path}/a.png html={tmp_path}/a.html"):
        assert main([*command.split(), f"outputs={tmp_path}"]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "nan" not in printed.lower() and "inf" not in printed.lower().replace("information", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", CLOCKS)
def test_a_sweep(name, small, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        stop(patched, name)
        assert main(["sweep", *small, "baselines=false", f"outputs={tmp_path}"]) == 0, capsys.readouterr().err
    check(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLOCKS)
def test_speed_cannot_be_measured(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "MOST_RUNS", 3)
    with monkeypatch.context() as patched:
        stop(patched, name)
        code = main(["speed", "method=cls", "ratio=0.9", f"json={tmp_path}/a.json", "chart=none", *QUICK])
    error = capsys.readouterr().err
    assert code == 2 and "Traceback" not in error, error
    assert "this machine's clock stands still or goes back" in error.splitlines()[-1]
