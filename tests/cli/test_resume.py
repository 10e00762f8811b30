"""A run that is killed goes on where it stopped, and ends with the answers of an undisturbed one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlmprune.evaluation.run_directory import RunDirectory

ARGUMENTS = ["run", "method=cls", "ratio=0.9", "limit=160", "batch_size=4", "latency_samples=0", "logger=none"]


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vlmprune", *ARGUMENTS]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def lines(folder: Path) -> list[str]:
    files = list(folder.rglob("predictions.jsonl"))
    return files[0].read_text().splitlines() if files else []


def answers(folder: Path) -> dict:
    (file,) = folder.rglob("result.json")
    return json.loads(file.read_text())["answers"]


@pytest.mark.slow
def test_kill_9_loses_nothing(tmp_path):
    disturbed, calm = tmp_path / "disturbed", tmp_path / "calm"
    disturbed.mkdir()
    calm.mkdir()
    assert start(calm).wait(timeout=300) == 0

    process = start(disturbed)
    deadline = time.monotonic() + 120
    while len(lines(disturbed)) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    answered = len(lines(disturbed))
    assert 8 <= answered < 160
    with open(next(disturbed.rglob("predictions.jsonl")), "a") as file:
        file.write('{"id": "cut sh')  # what a crash inside a write leaves

    process = start(disturbed)
    assert process.wait(timeout=300) == 0
    assert process.stderr is not None
    assert f"resuming: {answered} of 160" in process.stderr.read()
    assert sorted(lines(disturbed)) == sorted(lines(calm))  # batches are others after the kill
    assert answers(disturbed) == answers(calm)


@pytest.mark.slow
def test_two_processes_do_not_share_a_directory(tmp_path):
    assert start(tmp_path).wait(timeout=300) == 0
    (result,) = tmp_path.rglob("result.json")
    result.unlink()
    config = result.with_name("config.yaml")
    before = config.stat().st_mtime_ns
    with RunDirectory(result.parent, "").lock():  # as a running process holds it
        process = start(tmp_path)
        assert process.wait(timeout=120) == 2
    assert process.stderr is not None
    assert "in use by another vlmprune process" in process.stderr.read()
    assert config.stat().st_mtime_ns == before
    assert start(tmp_path).wait(timeout=300) == 0
    assert len(lines(tmp_path)) == 160
