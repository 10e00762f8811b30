"""Every launcher gives the answers of the plain one; a worker that is killed costs one job, which can be resumed.

Worker processes, submitit's local executor, and a Ray cluster of two nodes on this machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sweep.conftest import QUICK, Place, write_methods

SETTINGS = ("method=slow,uniform", "keep=9,20", "baselines=false", *QUICK, "limit=16")
WAIT = 300

pytestmark = pytest.mark.slow


def start(folder: Path, *settings: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vlmprune", "sweep", "--config-dir", "configs", *SETTINGS, *settings]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Return the output of a process, once it has ended."""
    return process.communicate(timeout=WAIT)[0]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """True while the process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Answers of an undisturbed sweep in one process."""
    folder = tmp_path_factory.mktemp("calm")
    write_methods(folder)
    process = start(folder)
    assert "4 done" in finish(process)
    return Place(folder).answers()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_methods(tmp_path)
    return tmp_path


def worker_at_work(folder: Path) -> int:
    """The process of a run that has answered something and has more to do."""

    def answering() -> bool:
        files = folder.glob("outputs/scenes/tiny/slow-*/predictions.jsonl")
        return sum(file.stat().st_size > 0 for file in files) == 2 and (folder / "pid").exists()

    until(answering)
    return int((folder / "pid").read_text())


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """A cluster of two nodes with a core each: a worker on each of them."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster.address
    cluster.shutdown()


@pytest.mark.parametrize("launcher", ["gpus", "slurm", "ray"])
def test_a_killed_worker_costs_one_job(folder, calm, launcher, request):
    own = {
        "gpus": lambda: ("launcher.workers=2",),
        "slurm": lambda: ("launcher.cluster=local", "launcher.gpus=0", "launcher.array=2"),
        "ray": lambda: (f"launcher.address={request.getfixturevalue('ray_address')}",),
    }[launcher]()
    (folder / "slow").touch()
    process = start(folder, f"launcher={launcher}", *own)
    os.kill(worker_at_work(folder), signal.SIGKILL)
    (folder / "slow").unlink()
    shown = finish(process)
    assert process.returncode == 1, shown
    place = Place(folder)
    statuses = place.statuses
    assert sorted(statuses.values()) == ["done", "done", "done", "failed"], shown
    (failed,) = (job for job in place.state["jobs"] if job["status"] == "failed")
    assert failed["method"] == "slow" and "died" in failed["reason"], failed
    assert 0 < failed["answered"] < 16
    assert f"FAILED {failed['title']}" in shown

    process = start(folder, f"launcher={launcher}", *own)
    shown = finish(process)
    assert process.returncode == 0, shown
    assert "1 partly done, 3 finished" in shown
    assert sorted(place.statuses.values()) == ["done", "skipped", "skipped", "skipped"]
    assert place.answers() == calm


def test_stopped_and_killed_and_resumed(folder, calm):
    """Ctrl-C, then kill -9 of the sweep itself: no worker outlives it, and nothing is lost."""
    own = ("launcher=gpus", "launcher.workers=2")
    (folder / "slow").touch()
    process = start(folder, *own)
    pid = worker_at_work(folder)
    process.send_signal(signal.SIGINT)
    shown = finish(process)
    assert process.returncode == 130, shown
    assert "stopped at" in shown and "the same command resumes" in shown
    assert not alive(pid)
    assert "stopped" in Place(folder).statuses.values()

    (folder / "pid").unlink()
    process = start(folder, *own)
    pid = worker_at_work(folder)
    assert "running" in Place(folder).statuses.values()
    process.kill()
    process.communicate(timeout=WAIT)
    until(lambda: not alive(pid))

    (folder / "slow").unlink()
    process = start(folder, *own)
    shown = finish(process)
    assert process.returncode == 0, shown
    assert "partly done" in shown
    assert Place(folder).answers() == calm
