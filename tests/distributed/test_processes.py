"""Real processes on the CPU: the answers of one process, however many there are and whatever happens to them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from vlmprune.tiny.testset import load_test_split

pytestmark = pytest.mark.slow

QUICK = ["latency_samples=0", "logger=none", "device=cpu", "show.samples=0"]
CLS = ["method=cls", "ratio=0.9", "limit=300", "batch_size=2", *QUICK]
ALONE = ["-m", "vlmprune", "run"]
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
TORCHRUN += ["--rdzv-endpoint", "localhost:0"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
NEEDS_ACCELERATE = pytest.mark.skipif(find_spec("accelerate") is None, reason="needs accelerate")


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A process in a group of its own, so that a Ctrl-C reaches it alone."""
    folder.mkdir(exist_ok=True)
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, process_group=0, **output)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and stderr."""
    _, told = process.communicate(timeout=300)
    return process.returncode, told


def lines(folder: Path, name: str) -> list[str]:
    found = []
    for file in folder.rglob(name):
        with suppress(FileNotFoundError):  # it was merged meanwhile
            found += file.read_text().splitlines()
    return sorted(found)


def record(folder: Path, name: str) -> dict:
    (file,) = folder.rglob(name)
    return json.loads(file.read_text())


def same(folder: Path, calm: Path) -> bool:
    """True if the answers are those of one undisturbed process."""
    for name in ("predictions.jsonl", "kept.jsonl"):
        assert lines(folder, name) == lines(calm, name)
    return record(folder, "result.json")["answers"] == record(calm, "result.json")["answers"]


def answers(folder: Path) -> set[str]:
    """Ids of the questions that any process has answered; those of a share may just be moved."""
    rows = [line for line in lines(folder, "predictions.jsonl") if line.endswith("}")]
    return {json.loads(line)["id"] for line in rows}


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_for_answers(folder: Path, count: int) -> None:
    wait_until(lambda: len(answers(folder)) >= count)


def children(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def gone(pids: list[int]) -> bool:
    """True if these processes end by themselves."""
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
    wait_until(lambda: bool(list(tmp_path.rglob("processes/1/report.json"))))
    others = children(process)
    assert len(others) == 1
    os.kill(others[0], signal.SIGKILL)
    code, told = finish(process)
    assert code == 1
    assert "process 2 of 2 (cpu): killed by SIGKILL" in told and "Traceback" not in told
    assert gone(others)

    process = start(tmp_path, *ALONE, *CLS)  # one process goes on with the answers of two, and is killed too
    wait_for_answers(tmp_path, len(answers(tmp_path)) + 10)
    assert not list(tmp_path.rglob("processes"))
    process.kill()
    finish(process)

    process = start(tmp_path, *ALONE, *CLS, "devices=2")
    wait_for_answers(tmp_path, len(answers(tmp_path)) + 10)
    others = children(process)
    process.kill()
    finish(process)
    process = start(tmp_path, *ALONE, *CLS, "devices=2")  # at once, while the other may still be in its batch
    wait_for_answers(tmp_path, len(answers(tmp_path)) + 10)
    assert gone(others)
    others = children(process)
    process.send_signal(signal.SIGINT)
    code, told = finish(process)
    assert code == 130
    assert "stopped; run the same command again" in told and "Traceback" not in told
    assert gone(others)

    assert len(answers(tmp_path)) < 300
    code, told = finish(start(tmp_path, *ALONE, *CLS))
    assert code == 0 and "resuming" in told
    assert same(tmp_path, calm)
    assert [each["devices"] for each in record(tmp_path, "environment.json")["environments"]] == [2, 1]


@pytest.mark.parametrize("moment", ["the worker begins", "the first answer", "later"])
def test_all_processes_are_killed_at_once(moment, calm, tmp_path):
    process = start(tmp_path, *ALONE, *CLS, "devices=2")
    if moment == "the worker begins":
        wait_until(lambda: bool(list(tmp_path.rglob("report.json"))))
    else:
        wait_for_answers(tmp_path, 1 if moment == "the first answer" else 60)
    for pid in [*children(process), process.pid]:
        os.kill(pid, signal.SIGKILL)
    finish(process)
    code, told = finish(start(tmp_path, *ALONE, *CLS, "devices=2"))
    assert code == 0, told
    assert same(tmp_path, calm)
    assert not list(tmp_path.rglob("processes"))


@pytest.mark.parametrize(
    "launcher", [TORCHRUN, pytest.param(ACCELERATE, marks=NEEDS_ACCELERATE)], ids=["torchrun", "accelerate"]
)
def test_a_launcher_of_others(launcher, calm, tmp_path):
    code, told = finish(start(tmp_path, *launcher, *ALONE, *CLS))
    assert code == 0, told
    assert told.count("cls ratio=0.9 · answers: 300 questions") == 1
    assert told.count("tiny on scenes · 300 questions · 2 x cpu, float32, sdpa attention\n") == 1
    assert same(tmp_path, calm)
    assert record(tmp_path, "result.json")["environment"]["devices"] == 2


def start_rank(folder: Path, rank: int, port: int, *arguments: str) -> subprocess.Popen[str]:
    """One of three processes, each on its own of three nodes that share the folder."""
    launched = {"WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "1", "RANK": str(rank), "LOCAL_RANK": "0"}
    return start(folder, *ALONE, *arguments, **launched, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_three_nodes_with_a_shared_folder(calm, tmp_path):
    port = free_port()
    ranks = [start_rank(tmp_path, rank, port, *CLS) for rank in range(3)]
    wait_until(lambda: len(list(tmp_path.rglob("report.json"))) == 2)
    wait_for_answers(tmp_path, 20)
    ranks[1].kill()
    (code, told), _, (last, silent) = map(finish, ranks)
    assert code == 1 and "process 2 of 3 (cpu): died" in told and "Traceback" not in told
    assert last == 0 and "vlmprune:" not in silent  # nobody ends it here, and it answers its share

    port = free_port()
    ended = [finish(rank) for rank in [start_rank(tmp_path, rank, port, *CLS) for rank in range(3)]]
    assert [code for code, _ in ended] == [0, 0, 0], ended
    assert same(tmp_path, calm)


def test_a_refusal_is_printed_once(tmp_path):
    port, refused = free_port(), ["method=clss"]
    ended = [finish(rank) for rank in [start_rank(tmp_path, rank, port, *refused) for rank in range(3)]]
    assert [code for code, _ in ended] == [2, 0, 0]
    assert sum("did you mean 'cls'" in told for _, told in ended) == 1


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
