"""The processes of a run: how many a CPU can take, and those that `devices=` starts."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys

import torch

from vlmprune.config.settings import RunConfig
from vlmprune.distributed import torchrun
from vlmprune.distributed.messages import Connection
from vlmprune.distributed.team import Process, Team
from vlmprune.errors import UserError


def check_cores(setting: str, processes: int) -> None:
    """Raise a UserError that names `setting` if there are more processes than cores."""
    cores = os.cpu_count() or 1
    if processes > cores:
        there = f"{cores} CPU core{'' if cores == 1 else 's'}"
        raise UserError(f"{setting}: this machine has {there}, one for each process")


_started: Team | None = None  # shared by the jobs of a sweep, so that each process loads a model once


def process_count(config: RunConfig) -> int:
    """Return the number of processes that share a run's questions. Raise UserError if the run cannot have so many."""
    count = local = config.devices
    if torchrun.launcher_team is not None:
        count, local = torchrun.launcher_team.size, torchrun.local_size()
        if config.devices not in (1, count):
            raise UserError(f"devices={config.devices}: the launcher started {count} processes; leave out devices=")
    if count == 1:
        return 1
    if config.model.device_map is not None:
        raise UserError(
            f"model.device_map={config.model.device_map}: spreads one model over the GPUs, and each of {count} "
            "processes has a model of its own; use devices=1"
        )
    if config.device == "cpu":
        if torchrun.launcher_team is None:
            check_cores(f"devices={count}", count)
        return count
    if config.device not in ("auto", "cuda"):
        raise UserError(f"device={config.device}: each of {count} processes gets its own; allowed: auto, cuda, cpu")
    gpus = torch.cuda.device_count()
    if local > gpus:
        wanted = f"devices={count}" if torchrun.launcher_team is None else f"{local} processes"
        there = f"{gpus} GPU{'' if gpus == 1 else 's'}"
        raise UserError(f"{wanted}: this machine has {there}; with device=cpu processes share its cores instead")
    return count


def team_of(config: RunConfig) -> Team:
    """Return the processes that share a run's questions: the launcher's, or `devices` - 1 which this one starts."""
    global _started
    if torchrun.launcher_team is not None:
        return torchrun.launcher_team
    count = process_count(config)
    if _started is None or _started.closed or _started.size != count:
        if _started is not None:
            _started.close()
        _started = start_processes(count, config.device == "cpu")
    return _started


def start_processes(count: int, on_cpu: bool) -> Team:
    """Start all processes but this one. They end when it ends, and Ctrl-C at the terminal interrupts this one alone."""
    members = []
    environment, threads = dict(os.environ), None
    if on_cpu and count > 1 and "OMP_NUM_THREADS" not in environment:
        threads = max(1, (os.cpu_count() or 1) // count)
        environment["OMP_NUM_THREADS"] = str(threads)
    for rank in range(1, count):
        ours, theirs = socket.socketpair()
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-m", "vlmprune.distributed.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # only this process prints results to stdout
                start_new_session=True,
                env=environment,
            )
        members.append(Process(rank, rank, Connection(ours), child))
    team = Team(members, threads)
    atexit.register(team.close)
    return team
