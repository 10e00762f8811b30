"""Ctrl-C, SIGTERM and SIGHUP: the exit code that shells know, a directory that is free again, a run that goes on."""

from __future__ import annotations

import os
import random
import signal

import pytest

from tests.robustness.left import left, progress
from vlmprune.cli import main
from vlmprune.errors import Terminated
from vlmprune.evaluation.run_directory import RunDirectory

CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
COMMON = ("ratio=0.9", "method=cls", "batch_size=2", "latency_samples=0", "show.samples=1", "logger=none", "limit=8")
MOMENTS = 6


@pytest.mark.parametrize("command", ["run", pytest.param("sweep", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", pytest.param("SIGHUP", marks=pytest.mark.slow)])
def test_a_stopped_command_goes_on(name, command, tmp_path, monkeypatch, capsys):
    """In this process, at the second batch that is written."""
    arguments = [command, *COMMON, *(["baselines=false"] if command == "sweep" else [])]
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    assert main([*arguments, f"outputs={tmp_path}/calm"]) == 0
    append, batches = RunDirectory.append, []

    def stopping(self, predictions, kept):
        append(self, predictions, kept)
        batches.append(len(predictions))
        if len(batches) == 2:
            os.kill(os.getpid(), getattr(signal, name))

    monkeypatch.setattr(RunDirectory, "append", stopping)
    try:
        assert main([*arguments, f"outputs={tmp_path}/stopped"]) == CODES[name]
        errors = capsys.readouterr().err
        assert ("the same command resumes" if command == "sweep" else "run the same command again to resume") in errors
        assert "Traceback" not in errors and batches == [2, 2]
        assert progress(tmp_path / "stopped", 8).answered == 4
        assert main([*arguments, f"outputs={tmp_path}/stopped"]) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert "resuming: 4 of 8" in capsys.readouterr().err
    assert left(tmp_path / "stopped") == left(tmp_path / "calm")


@pytest.mark.slow
@pytest.mark.parametrize("name", CODES)
def test_signals_at_random_moments(name, victims, tmp_path):
    server, arguments = victims[0], ("run", *COMMON)
    life = server.run(tmp_path / "calm", *arguments).seconds
    expected, moments, codes = left(tmp_path / "calm"), random.Random(name), []
    for number in range(MOMENTS):
        folder = tmp_path / str(number)
        pid = server.start(folder, *arguments)
        ended = server.end(pid, moments.uniform(0.1, 0.9) * life, getattr(signal, name))
        codes.append(ended.code)
        assert ended.code in (0, CODES[name]), ended.errors
        assert "Traceback" not in ended.errors, ended.errors
        assert server.run(folder, *arguments).code == 0, "the same command does not go on at once"
        assert left(folder) == expected, f"another outcome after {name}, moment {number}"
    assert codes.count(CODES[name]) >= MOMENTS // 2, f"exit codes after {MOMENTS} signals: {codes}"


@pytest.mark.parametrize("code", [130, 143])
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_a_library_that_fails_while_it_is_stopped(monkeypatch, tmp_path, capsys, command, code):
    """OmegaConf restores flags in a `finally`, which raises an error of its own where a signal came too early."""

    def stopped(*_arguments):
        try:
            raise KeyboardInterrupt if code == 130 else Terminated(signal.SIGTERM)
        finally:
            raise AttributeError("'NoneType' object has no attribute '_invalidate_flags_cache'")

    monkeypatch.setattr("vlmprune.run.load_models", stopped)
    baselines = ["baselines=false"] if command == "sweep" else []
    assert main([command, *COMMON, *baselines, f"outputs={tmp_path}"]) == code
    errors = capsys.readouterr().err
    assert "Traceback" not in errors and "failed" not in errors
