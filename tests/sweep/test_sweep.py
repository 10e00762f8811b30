"""A sweep does not stop for one job, says what became of each, and goes on where it was stopped."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.documented import fields
from tests.sweep.conftest import QUICK
from vlmprune.benchmarks.scenes import Scenes
from vlmprune.cli import main
from vlmprune.evaluation import plan
from vlmprune.models import loading
from vlmprune.results.sweep_record import JobRecord, SweepRecord, jobs_without_result, read_sweep


def test_a_failed_job_is_shown_at_once_and_stops_nothing(place, capsys, monkeypatch):
    monkeypatch.setenv("FAKE_API_KEY", "hunter2-hunter2")
    assert place.sweep("method=boom,uniform", "keep=9", "baselines=false") == 1
    shown = capsys.readouterr()
    failed, started = shown.err.index("FAILED method=boom"), shown.err.index("start  method=uniform")
    assert failed < started and "ArithmeticError: no score today" in shown.err
    assert "FAILED  ArithmeticError" in shown.out and "1 done, 1 failed" in shown.err
    assert place.statuses == {"method=boom": "failed", "method=uniform": "done"}
    log = (place.folder / "outputs" / place.state["jobs"][0]["log"]).read_text()
    assert "Traceback" in log and "odd_methods.py" in log
    assert "hunter2" not in log + shown.err + shown.out + str(place.state)  # a key never reaches what is kept

    assert place.sweep("method=boom,uniform", "keep=9", "baselines=false") == 1
    assert "2 jobs: 1 new, 1 finished" in capsys.readouterr().err
    assert place.statuses == {"method=boom": "failed", "method=uniform": "skipped"}


def test_a_job_that_was_finished_before_is_one_line(place, capsys):
    assert place.sweep("method=uniform", "keep=9,8", "baselines=false") == 0
    told = capsys.readouterr().err
    assert told.count("tiny on scenes · 4 questions · cpu, float32, sdpa attention\n") == 1  # for both jobs
    assert "uniform keep=9 · answers: 4 questions" in told and "uniform keep=8 · load 0.0 s, answers" in told
    assert place.sweep("method=uniform", "keep=9,8", "baselines=false") == 0
    shown = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in shown[1:]] == ["[1/2] done", "[2/2] done"]
    assert main(["run", "method=uniform", "keep=9", *QUICK]) == 0  # a run says it itself
    assert "already finished" in capsys.readouterr().err


def test_each_job_is_planned_once_and_the_model_loaded_once_for_all(place, monkeypatch):
    done = []

    def counted(name, function):
        return lambda *given, **named: (done.append(name), function(*given, **named))[1]

    monkeypatch.setattr(plan, "choose_parts", counted("plan", plan.choose_parts))
    monkeypatch.setattr(loading, "load", counted("load", loading.load))
    monkeypatch.setattr(Scenes, "load", counted("read", Scenes.load))
    assert place.sweep("method=uniform,cls", "keep=9", "baselines=false") == 0
    assert done == ["plan", "read", "plan", "load"]


def test_fail_fast(place, capsys):
    assert place.sweep("method=boom,uniform", "keep=9", "baselines=false", "fail_fast=true") == 1
    assert place.statuses == {"method=boom": "failed", "method=uniform": "waiting"}
    assert "not run" in capsys.readouterr().out
    assert place.answers() == {}


def test_a_method_that_the_model_cannot_run_is_a_row_and_no_failure(place, capsys):
    assert place.sweep("method=uniform,scm,fastv", "ratio=0.9", "baselines=false") == 0
    shown = capsys.readouterr()
    refused, started = shown.err.index("NOT APPLICABLE method=scm"), shown.err.index("start ")
    assert refused < started  # known before anything loads
    assert "NOT APPLICABLE method 'scm' needs tiles" in " ".join(shown.out.split())
    assert place.statuses == {"method=uniform": "done", "method=scm": "not_applicable", "method=fastv": "done"}


def test_settings_that_a_model_is_too_shallow_for_are_a_row_too(place):
    assert place.sweep("method=fastv", "method.k=2,9", "ratio=0.5", "baselines=false") == 0
    assert list(place.statuses.values()) == ["done", "not_applicable"]
    assert "allowed: 1 to 5" in place.state["jobs"][1]["reason"]


def test_ctrl_c_leaves_a_run_that_goes_on(place, capsys):
    (place.folder / "stop").touch()
    settings = ("method=stopper,uniform", "keep=9", "baselines=false")
    assert place.sweep(*settings) == 130
    shown = capsys.readouterr()
    assert "stopped at 2 of 4 questions" in shown.out and "not run" in shown.out
    assert f"resumes: vlmprune sweep --config-dir {place.folder}/configs method=stopper,uniform" in shown.err
    assert place.statuses == {"method=stopper": "stopped", "method=uniform": "waiting"}

    (place.folder / "stop").unlink()
    assert place.sweep(*settings) == 0
    shown = capsys.readouterr()
    assert "2 jobs: 1 new, 1 partly done" in shown.err and "resuming: 2 of 4" in shown.err
    assert place.statuses == {"method=stopper": "done", "method=uniform": "done"}


def test_the_file_is_as_documented_and_reads_back(place):
    quick = ["limit=2", "latency_samples=0", "logger=none", "show.samples=0"]
    assert main(["run", "-m", "method=uniform", "keep=9,20", *quick]) == 0
    state = place.state
    assert state.keys() == fields(SweepRecord)
    assert state["jobs"][0].keys() == fields(JobRecord)
    assert list(place.statuses) == [
        "method=none",
        "method=random keep=9",
        "method=random keep=20",
        "method=uniform keep=9",
        "method=uniform keep=20",
    ]
    (file,) = (place.folder / "outputs/sweeps").glob("*.json")
    assert read_sweep(file).jobs[3].keep == 9


@pytest.mark.slow
def test_a_later_look_finds_what_has_no_result(place):
    outputs = place.folder / "outputs"
    assert place.sweep("method=boom,scm,uniform", "keep=9", "baselines=false") == 1
    assert [(job.method, job.status) for job in jobs_without_result(outputs)[0]] == [
        ("boom", "failed"),
        ("scm", "not_applicable"),
    ]
    (place.folder / "mended").touch()
    assert place.sweep("method=boom,uniform", "keep=9", "baselines=false") == 0
    assert [job.method for job in jobs_without_result(outputs)[0]] == ["scm"]


@pytest.mark.parametrize(
    ("settings", "value", "hint"),
    [
        (["method=scm", "ratio=0.5"], "needs tiles", "methods that work"),  # nothing that was asked for can run
        (["method=fastv", "method.k=9", "ratio=0.5"], "k=9", "1 to 5"),
        (["method=uniform,fastv"], "no amount", "give ratio= or keep="),
        (["method=uniform", "keep=9", "outputs=/proc/nowhere"], "/proc/nowhere", "cannot be used"),
        (["method=uniform", "keep=9", "fail_fast=true,false"], "fail_fast=true,false", "not several"),
        (["method=uniform", "keep=9", "launcher=gpus", "launcher.workers=0"], "workers=0", "1 or more"),
        (["method=uniform", "keep=9", "launcher=gpus", "launcher.workers=two"], "workers=two", "an integer"),
        (["method=uniform", "keep=9", "launcher=gpus"], "device=cpu", "launcher.workers=2"),
        (["method=uniform", "keep=9", "launcher=gpus", "launcher.workers=2", "devices=2"], "devices=2", "inprocess"),
        (["method=uniform", "keep=9", "launcher=slurm"], "no srun", "launcher.cluster=local"),
        (["method=uniform", "keep=9", "launcher=slurm", "launcher.time=0"], "time=0", "1 or more"),
        (["method=uniform", "keep=9", "launcher=slurm", "launcher.gpus=-1"], "gpus=-1", "0 or more"),
        (["method=uniform", "keep=9", "launcher.workers=2"], "workers", "allowed"),
        (["method=uniform", "keep=9", "launcher=ray", "launcher.address=localhost:1"], "localhost:1", "no Ray cluster"),
        (["method=uniform", "keep=9", "launcher=ray", "launcher.cpus=0"], "cpus=0", "more than 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_before_anything_runs(place, capfd, settings, value, hint):
    assert place.sweep(*settings) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("vlmprune: ") and value in line and hint in line
    assert not (place.folder / "outputs").exists()


def test_a_missing_extra_is_named_with_its_pip_command(place, capsys, monkeypatch):
    monkeypatch.setattr("vlmprune.launchers.base.find_spec", lambda name: None)
    for launcher, module in (("slurm", "submitit"), ("ray", "ray")):
        assert place.sweep("method=uniform", "keep=9", f"launcher={launcher}") == 2
        line = capsys.readouterr().err
        assert f"{module} is not installed; pip install 'vlmprune[{launcher}]'" in line


def test_running_what_is_suggested_gives_one_table(place, capsys):
    """The commands that outputs suggest are those of the missing runs."""
    (place.folder / "my results").mkdir()
    settings = ["method=uniform", "ratio=0.9", "positions=keep", "outputs=my results", *QUICK]
    assert main(["run", "--config-dir", "configs", *settings]) == 0
    (line,) = re.findall(r"^next   (.*)   \(for the relative score\)$", capsys.readouterr().out, re.MULTILINE)
    unpruned = shlex.split(line)
    assert unpruned[:3] == ["vlmprune", "run", "method=none"] and "positions=keep" not in unpruned
    assert "outputs=my results" in unpruned and any(word.startswith("--config-dir") for word in unpruned)

    assert main(["compare", "outputs=my results"]) == 0
    notes = re.findall(r"^note: .*: (vlmprune run .*)$", capsys.readouterr().out, re.MULTILINE)
    assert shlex.split(notes[0]) == unpruned and len(notes) == 2
    assert shlex.split(notes[1])[:4] == ["vlmprune", "run", "method=random", "ratio=0.9"]
    for note in notes:
        assert main(shlex.split(note)[1:]) == 0
    capsys.readouterr()

    assert main(["compare", "outputs=my results"]) == 0
    shown = capsys.readouterr().out
    assert "note:" not in shown and "cannot all be compared" not in shown and "not shown" not in shown
    rows = [line for line in shown.splitlines() if "/144" in line]
    assert len(rows) == 3 and len([row for row in rows if "uniform" in row and "(" in row]) == 1
