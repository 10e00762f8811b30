"""Processes that `accelerate launch -m vlmprune run ...` or `torchrun -m vlmprune run ...` started.

Each reads its rank from its environment. The others wait in torch.distributed, with gloo, until process 0 has planned
the run and gives them its directory, which all machines have to see by the same path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from vlmprune.errors import ProcessLost, UserError, error_text
from vlmprune.results.runs import SHARES

NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
REMEDY = "start it with accelerate launch or torchrun, or unset WORLD_SIZE"
WAITING = timedelta(days=1)  # the planning of a run may download a checkpoint

launched = 1  # number of processes that a launcher started, in process 0 of several
_group: Any = None  # of torch.distributed, while the others wait


def world_size() -> int:
    """Return the number of processes that a launcher started; 1 without a launcher.

    Raise UserError if WORLD_SIZE is no such number.
    """
    return _number("WORLD_SIZE", 1, 1)


def local_size() -> int:
    """Return the number of those processes that run on this machine."""
    return _number("LOCAL_WORLD_SIZE", world_size(), 1)


def check_environment() -> None:
    """Raise UserError if a variable that a launcher sets in the environment is missing or impossible."""
    if missing := [name for name in NEEDED if name not in os.environ]:
        raise UserError(f"WORLD_SIZE={world_size()} without {', '.join(missing)}: {REMEDY}")
    local_size()
    for name in ("RANK", "LOCAL_RANK"):
        if _number(name, 0, 0) >= world_size():
            raise UserError(f"{name}={os.environ[name]} of WORLD_SIZE={world_size()}: they count from 0; {REMEDY}")
    _number("MASTER_PORT", 0, 1, 65535)
    if not re.fullmatch(r"[\w.:%-]{1,253}", os.environ["MASTER_ADDR"]):  # gloo waits for an unresolved name
        raise UserError(f"MASTER_ADDR={os.environ['MASTER_ADDR']} in the environment is no name of a machine; {REMEDY}")


def _number(name: str, default: int, least: int, most: int = 999_999) -> int:
    """Return a number that a launcher sets in the environment; `default` if it is not set."""
    value = os.environ.get(name, str(default))
    if re.fullmatch("[0-9]{1,6}", value) is None or not least <= int(value) <= most:
        raise UserError(
            f"{name}={value} in the environment: expected a number, {least} or more, at most {most}; {REMEDY}"
        )
    return int(value)


def run_in_all_processes(command: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Carry out `command`, a run, in process 0, and answer a share of it in all others; return the exit code."""
    global launched, _group
    if world_size() == 1:
        return command(arguments)
    check_environment()
    import torch.distributed as dist

    dist.init_process_group("gloo")
    _group = dist.new_group(timeout=WAITING)
    if os.environ["RANK"] != "0":
        return answer_launched_share()
    launched = world_size()
    try:
        return command(arguments)
    finally:
        launched = 1
        if _group is not None:  # nothing was to be answered, or the run was refused
            with suppress(ProcessLost):
                broadcast(None)


def refuse_sweep() -> None:
    """Raise UserError in a launcher's processes: there, an error in one job of a sweep would end all other jobs."""
    if launched > 1:
        raise UserError(
            "accelerate launch and torchrun start the processes of one run: without them, "
            f"devices={launched} gives every job of a sweep as many"
        )


def answer_launched_share() -> int:
    """Wait for process 0, answer this process's share of its run, and return the exit code."""
    try:
        folder = broadcast(None)
        if folder is None:
            return 0
        from vlmprune.distributed.worker import JOB, answer_share
        from vlmprune.evaluation.plan import Resources

        share = folder / SHARES / str(int(os.environ["RANK"]))
        if not (share / JOB).exists():
            raise UserError(f"{share} is not there: on several machines outputs= has to be a folder that all share")
        answer_share(share, Resources())
    except (ProcessLost, KeyboardInterrupt):  # process 0 is gone, or reports the error
        return 1
    return 0


def broadcast(folder: Path | None) -> Path | None:
    """Return the run directory that process 0 gives to all; None if nothing is to be answered. Leaves their group.

    Raises ProcessLost if one of them is gone.
    """
    global _group
    import torch.distributed as dist

    given = [folder]
    try:
        dist.broadcast_object_list(given, group=_group)
    except RuntimeError as error:
        raise ProcessLost(f"a process of the launcher is gone ({error_text(error)})") from error
    finally:
        _group = None
        dist.destroy_process_group()
    return given[0]
