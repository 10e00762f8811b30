"""The script that reaches sbatch. There is no Slurm here, so that stand-ins record it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlmprune.launchers.base import Task
from vlmprune.launchers.slurm import Slurm

COMMANDS = {"sbatch": 'cp "$1" SCRIPT; echo Submitted batch job 7', "scancel": 'echo "$1" >> CANCELLED'}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the commands of Slurm."""
    for name in ("srun", "sbatch", "scancel", "sacct"):
        text = COMMANDS.get(name, "true").replace("SCRIPT", f"{tmp_path}/script")
        (tmp_path / name).write_text("#!/bin/sh\n" + text.replace("CANCELLED", f"{tmp_path}/cancelled") + "\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def test_a_job_array_with_what_was_set(slurm):
    launcher = Slurm(partition="gpu", account="lab", gpus=2, cpus=4, memory_gb=64, time=90, array=8)
    launcher.setup, launcher.extra = ["module load cuda"], {"constraint": "a100"}
    launcher.check([])
    tasks = [Task(number, [], None, "g", ".", "m", str(slurm / "log")) for number in (1, 2, 3)]
    workers = launcher.hire(tasks, slurm)
    with launcher.submitting():
        for worker, task in zip(workers, tasks, strict=True):
            worker.begin(task)
    script = (slurm / "script").read_text()
    wanted = [
        "array=0-2%3",
        "partition=gpu",
        "account=lab",
        "gpus-per-node=2",
        "cpus-per-task=4",
        "mem=64GB",
        "time=90",
    ]
    for option in [*wanted, "constraint=a100"]:
        assert f"#SBATCH --{option}\n" in script
    assert "module load cuda" in script
    assert [worker.job.job_id for worker in workers] == ["7_0", "7_1", "7_2"]

    for worker in workers:
        assert worker.outcome() is None
        worker.stop()
    assert (slurm / "cancelled").read_text().split() == ["7_0", "7_1", "7_2"]


def test_what_sbatch_refuses_is_one_line(slurm, place, capsys):
    """Nothing is left running or half written: the same command works once Slurm takes the jobs."""
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpux' >&2\nexit 1\n")
    (slurm / "squeue").write_text("#!/bin/sh\ntrue\n")
    (slurm / "squeue").chmod(0o755)
    assert place.sweep("method=uniform", "keep=9", "launcher=slurm", "launcher.partition=gpux") == 2
    error = capsys.readouterr().err.splitlines()
    assert "launcher=slurm: Slurm refused the jobs" in error[-1] and "invalid partition specified: gpux" in error[-1]
    assert not [line for line in error if "Traceback" in line]
    assert not (slurm / "cancelled").exists() and place.answers() == {}
