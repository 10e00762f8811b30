"""launcher=ray: the jobs on a Ray cluster, an actor for each GPU, which keeps its model between jobs.

Ray is used directly. Hydra's plugin for it, hydra-ray-launcher 1.2, starts a task per job and returns when all have
ended: no progress could be shown, one worker that dies would lose the results of all others, and each task with a GPU
would load its model again. Outputs must be on a disk that the nodes share, and vlmprune installed there.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Interval

from vlmprune.config.settings import RunConfig
from vlmprune.errors import UserError
from vlmprune.launchers.base import Outcome, Task, Worker, WorkerLauncher, need
from vlmprune.launchers.task import TaskRunner

CONNECT_SECONDS = 5


@dataclass
class RayCluster(WorkerLauncher):
    """launcher=ray. address: of a running cluster, host:port, or `auto` for the one that this machine belongs to; null
    starts one on this machine for the sweep. workers: number of actors; null is as many as the cluster has room for.
    gpus, cpus: of each actor; gpus null is 1 if the cluster has any and the jobs are not on the CPU.
    """

    here: ClassVar[bool] = False

    address: str | None = None
    workers: Annotated[int, Interval(ge=1, le=100_000)] | None = None
    gpus: Annotated[float, Interval(ge=0, le=1024)] | None = None
    cpus: Annotated[float, Interval(ge=0, le=4096)] = 1

    def __post_init__(self) -> None:
        need("ray", "ray", "launcher=ray")
        if self.cpus <= 0:
            raise UserError(f"launcher.cpus={self.cpus}: allowed: more than 0")
        self._on_cpu = False

    def check(self, configs: list[RunConfig], dry: bool = False) -> None:
        if dry:  # no cluster is joined or started
            return
        self._on_cpu = all(config.device == "cpu" for config in configs)
        self._connect()
        room, gpus = self._capacity()
        if room < 1:
            self.close()
            raise UserError(f"launcher=ray: no node has room for a worker of {self.cpus:g} CPUs and {gpus:g} GPUs")

    def hire(self, tasks: list[Task], folder: Path) -> list[Worker]:
        room, gpus = self._capacity()
        count = min(len(tasks), room if self.workers is None else self.workers)
        return [RayWorker(self.cpus, gpus) for _ in range(count)]

    def close(self) -> None:
        import ray

        ray.shutdown()

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        given: dict[str, Any] = {"include_dashboard": False} if self.address is None else {"address": self.address}
        try:
            if host := re.fullmatch(r"([^:/]+):(\d+)", self.address or ""):  # Ray would try for 20 seconds and log it
                socket.create_connection((host[1], int(host[2])), timeout=CONNECT_SECONDS).close()
            ray.init(log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True, **given)
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"launcher.address={self.address}: no Ray cluster answers there ({reason})") from error

    def _capacity(self) -> tuple[int, float]:
        """Return the number of workers that fit on the cluster's nodes, and the GPUs of each."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = self.gpus
        if gpus is None:
            gpus = 1.0 if not self._on_cpu and any(node.get("GPU", 0) for node in nodes) else 0.0
        per_node = []
        for node in nodes:
            room = node.get("CPU", 0) // self.cpus
            per_node.append(min(room, node.get("GPU", 0) // gpus) if gpus else room)
        return int(sum(per_node)), gpus


class RayWorker(Worker):
    """Worker in one Ray actor, which is made with the first task and again after it died."""

    def __init__(self, cpus: float, gpus: float) -> None:
        self.cpus, self.gpus = cpus, gpus
        self.handle: Any = None
        self.answer: Any = None

    def begin(self, task: Task) -> None:
        import ray

        if self.handle is None:
            self.handle = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus)(TaskRunner).remote()
        self.answer = self.handle.run.remote(task)

    def outcome(self) -> Outcome | None:
        import ray

        if not ray.wait([self.answer], timeout=0)[0]:
            return None
        try:
            return ray.get(self.answer)
        except ray.exceptions.RayError as error:
            self.handle, self.model = None, None
            reason = " ".join(str(error).split())[:300]
            return Outcome("failed", f"its Ray worker died; the same command resumes the run ({reason})")

    def stop(self) -> None:
        import ray

        if self.handle is not None:
            ray.kill(self.handle)
            self.handle = None
