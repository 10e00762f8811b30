"""launcher=gpus: worker processes on this machine, one job per GPU at a time, each keeping its model between jobs.

A worker is `python -m vlmprune.launchers.worker`, which reads tasks and writes outcomes as JSON lines over pipes and
sees one GPU only. If the sweep's process is killed the pipe closes, and the worker stops.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Interval

from vlmprune.config.settings import RunConfig
from vlmprune.distributed.processes import check_cores
from vlmprune.errors import UserError, describe_exit
from vlmprune.launchers.base import Outcome, Task, Worker, WorkerLauncher

STOP_SECONDS = 10


@dataclass
class Gpus(WorkerLauncher):
    """launcher=gpus. workers: processes; null is one for each visible GPU. With device=cpu they share its cores."""

    workers: Annotated[int, Interval(ge=1, le=65_536)] | None = None

    def __post_init__(self) -> None:
        self._environments: list[dict[str, str]] = []

    def check(self, configs: list[RunConfig], dry: bool = False) -> None:
        if devices := sorted({c.device for c in configs if c.device not in ("auto", "cpu", "cuda")}):
            raise UserError(
                f"device={devices[0]}: launcher=gpus gives every job a GPU itself; allowed: auto, cuda, cpu"
            )
        if wide := [config.devices for config in configs if config.devices > 1]:
            raise UserError(f"devices={wide[0]}: launcher=gpus gives every job one GPU; use launcher=inprocess")
        if all(config.device == "cpu" for config in configs):
            if self.workers is None:
                raise UserError("launcher=gpus with device=cpu: say how many processes, such as launcher.workers=2")
            check_cores(f"launcher.workers={self.workers}", self.workers)
            threads = str(max(1, (os.cpu_count() or 1) // self.workers))
            threads = os.environ.get("OMP_NUM_THREADS", threads)
            self._environments = [{"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": threads}] * self.workers
            return
        gpus = visible_gpus()
        if not gpus:
            raise UserError("launcher=gpus: no GPU is visible; on the CPU give device=cpu launcher.workers=2")
        if self.workers is not None and self.workers > len(gpus):
            raise UserError(
                f"launcher.workers={self.workers}: this machine shows {len(gpus)} GPUs, one for each worker"
            )
        self._environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[: self.workers]]

    def hire(self, tasks: list[Task], folder: Path) -> list[Worker]:
        environments = enumerate(self._environments[: len(tasks)], start=1)
        return [ProcessWorker(folder / f"worker-{number}.log", environment) for number, environment in environments]


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(index) for index in range(count)] if named is None else named.split(",")[:count]


class ProcessWorker(Worker):
    """Worker in one process, which starts with the first task and again after it died."""

    def __init__(self, log: Path, environment: dict[str, str]) -> None:
        self.log, self.environment = log, environment
        self.process: subprocess.Popen[str] | None = None

    def begin(self, task: Task) -> None:
        if self.process is None:
            self._start()
        assert self.process is not None and self.process.stdin is not None
        with suppress(BrokenPipeError):  # it died between two tasks, as `outcome` reports
            self.process.stdin.write(json.dumps(asdict(task)) + "\n")
            self.process.stdin.flush()

    def outcome(self) -> Outcome | None:
        assert self.process is not None and self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], 0)[0]:
            return None
        line = self.process.stdout.readline()
        if line:
            return Outcome(**json.loads(line))
        code = self.process.wait()
        self.stop()
        self.model = None
        return Outcome("failed", f"its worker process died ({describe_exit(code)}); the same command resumes the run")

    def ask_to_stop(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()

    def stop(self) -> None:
        self.ask_to_stop()
        if self.process is None:
            return
        assert self.process.stdout is not None
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process = None

    def _start(self) -> None:
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vlmprune.launchers.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | self.environment,
                start_new_session=True,  # Ctrl-C at the terminal reaches the sweep alone, which stops its workers
            )
