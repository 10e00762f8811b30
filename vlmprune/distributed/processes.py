"""The processes of a run: how many a CPU can take, and those that `devices=` starts."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import torch

from vlmprune.config.settings import RunConfig
from vlmprune.distributed import torchrun
from vlmprune.distributed.team import Team
from vlmprune.errors import UserError
from vlmprune.results.runs import SHARES


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
    if torchrun.launched > 1:
        count, local = torchrun.launched, torchrun.local_size()
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
        if torchrun.launched == 1:
            check_cores(f"devices={count}", count)
        return count
    if config.device not in ("auto", "cuda"):
        raise UserError(f"device={config.device}: each of {count} processes gets its own; allowed: auto, cuda, cpu")
    gpus = torch.cuda.device_count()
    if local > gpus:
        wanted = f"devices={count}" if torchrun.launched == 1 else f"{local} processes"
        there = f"{gpus} GPU{'' if gpus == 1 else 's'}"
        raise UserError(f"{wanted}: this machine has {there}; with device=cpu processes share its cores instead")
    return count


def team_of(config: RunConfig) -> Team:
    """Return the processes that share a run's questions: the launcher's, or `devices` - 1 which this one starts."""
    global _started
    if torchrun.launched > 1:
        return Team(torchrun.launched, torchrun.broadcast)
    count = process_count(config)
    if _started is None or _started.closed or _started.size != count:
        if _started is not None:
            _started.close()
        _started = start_processes(count, config.device == "cpu")
    return _started


def start_processes(count: int, on_cpu: bool) -> Team:
    """Start all processes but this one. They end with it, and Ctrl-C at the terminal interrupts this one alone."""
    environment, threads = dict(os.environ), None
    if on_cpu and count > 1 and "OMP_NUM_THREADS" not in environment:
        threads = max(1, (os.cpu_count() or 1) // count)
        environment["OMP_NUM_THREADS"] = str(threads)
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "vlmprune.distributed.worker"],
            stdin=subprocess.PIPE,
            stdout=2,  # only this process prints results to stdout
            text=True,
            start_new_session=True,
            env=environment | {"LOCAL_RANK": str(rank)},
        )
        for rank in range(1, count)
    ]

    def begin(folder: Path) -> None:
        for rank, child in enumerate(children, start=1):
            assert child.stdin is not None
            with suppress(BrokenPipeError):  # it died between two runs, as the team reports
                print(json.dumps(str(folder / SHARES / str(rank))), file=child.stdin, flush=True)

    team = Team(count, begin, children, threads)
    atexit.register(team.close)
    return team
