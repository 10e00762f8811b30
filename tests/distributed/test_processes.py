"""Real processes on the CPU: the answers of one process, however many there are and whatever happens to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from vlmprune.tiny.testset import load_test_split

pytestmark = pytest.mark.slow

QUICK = ["latency_samples=0", "logger=none", "device=cpu", "show.samples=0"]
CLS = ["method=cls", "ratio=0.9", "limit=200", "batch_size=2", *QUICK]
ALONE = ["-m", "vlmprune", "run"]
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint"]
TORCHRUN += ["localhost:0", *ALONE]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """A process in a group of its own, so that a Ctrl-C reaches it alone."""
    folder.mkdir(exist_ok=True)
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, process_group=0, **output)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and stderr."""
    _, told = process.communicate(timeout=300)
    return process.returncode, told


def lines(folder: Path, name: str) -> list[str]:
    return sorted(line for file in folder.rglob(name) for line in file.read_text().splitlines())


def record(folder: Path, name: str) -> dict:
    (file,) = folder.rglob(name)
    return json.loads(file.read_text())


def same(folder: Path, calm: Path) -> bool:
    """Whether what was answered is what one undisturbed process answers."""
    for name in ("predictions.jsonl", "kept.jsonl"):
        assert lines(folder, name) == lines(calm, name)
    return record(folder, "result.json")["answers"] == record(calm, "result.json")["answers"]


def wait_for_answers(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(lines(folder, "predictions.jsonl")) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def gone(pids: list[int]) -> bool:
    """Whether these processes end by themselves."""
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("calm")
    assert finish(start(folder, *ALONE, *CLS))[0] == 0
    return folder


def test_killed_processes_lose_and_double_nothing(calm, tmp_path):
    process = start(tmp_path, *ALONE, *CLS, "devices=2")
    wait_for_answers(tmp_path, 30)
    others = children(process)
    assert len(others) == 1
    os.kill(others[0], signal.SIGKILL)
    code, told = finish(process)
    assert code == 1
    assert "process 2 of 2 (cpu): killed by SIGKILL" in told and "Traceback" not in told
    assert gone(others)

    process = start(tmp_path, *ALONE, *CLS, "devices=2")
    answered = len(lines(tmp_path, "predictions.jsonl"))
    wait_for_answers(tmp_path, answered + 30)
    others = children(process)
    process.kill()
    finish(process)
    assert gone(others)

    process = start(tmp_path, *ALONE, *CLS, "devices=2")
    answered = len(lines(tmp_path, "predictions.jsonl"))
    wait_for_answers(tmp_path, answered + 30)
    others = children(process)
    process.send_signal(signal.SIGINT)
    code, told = finish(process)
    assert code == 130
    assert "stopped; run the same command again" in told and "Traceback" not in told
    assert gone(others)

    assert len(lines(tmp_path, "predictions.jsonl")) < 200
    code, told = finish(start(tmp_path, *ALONE, *CLS))
    assert code == 0 and "resuming" in told
    assert same(tmp_path, calm)
    assert [each["devices"] for each in record(tmp_path, "environment.json")["environments"]] == [2, 1]


def test_torchrun_and_gloo(calm, tmp_path):
    code, told = finish(start(tmp_path, *TORCHRUN, *CLS))
    assert code == 0, told
    assert told.count("cls 0.9 on scenes: 200 questions") == 1
    assert same(tmp_path, calm)
    assert record(tmp_path, "result.json")["environment"]["devices"] == 2


@pytest.mark.skipif(find_spec("accelerate") is None, reason="needs accelerate")
def test_accelerate_launch(calm, tmp_path):
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    code, told = finish(start(tmp_path, *launch, *ALONE, *CLS))
    assert code == 0, told
    assert same(tmp_path, calm)


def test_a_sweep_whose_jobs_share_the_processes(tmp_path):
    """A method that reads the question and one that does not; a broken image that is left out."""
    (tmp_path / "images").mkdir()
    rows = []
    for number, row in enumerate(load_test_split().select(range(12))):
        name = f"images/{number}.png"
        row["image"].save(tmp_path / name)
        rows.append({"image": name, "question": row["question"], "answer": row["answer"]})
    (tmp_path / "images/3.png").write_bytes(b"torn")
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = ["benchmark=folder", "benchmark.path=.", "on_bad_sample=skip", "batch_size=2", "baselines=false", *QUICK]
    sweep = ["-m", "vlmprune", "sweep", "method=fastv,divprune", "ratio=0.9", *common]
    for devices in ("1", "2"):
        code, told = finish(start(tmp_path, *sweep, f"devices={devices}", f"outputs=on-{devices}"))
        assert code == 0, told
    for method in ("fastv", "divprune"):
        one, two = (next((tmp_path / name).rglob(f"{method}-0.9-*")) for name in ("on-1", "on-2"))
        assert same(two, one)
        assert record(two, "result.json")["bad_samples"] == {"count": 1, "ids": ["3"]}
