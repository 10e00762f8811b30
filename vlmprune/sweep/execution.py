"""Execution of a sweep's jobs by a launcher, and the table at the end."""

from __future__ import annotations

import hashlib
import os
import shlex
from datetime import UTC, datetime
from pathlib import Path

from vlmprune.errors import UserError, stop_code
from vlmprune.launchers.base import Launcher, Task, WorkerLauncher
from vlmprune.launchers.contract import check, launch
from vlmprune.launchers.inprocess import InProcess
from vlmprune.launchers.task import PASSED_ON
from vlmprune.plan import shared_benchmarks
from vlmprune.progress import say
from vlmprune.sweep.board import Board
from vlmprune.sweep.examine import examine, model_key
from vlmprune.sweep.jobs import Job
from vlmprune.sweep.settings import SweepSettings
from vlmprune.sweep.table import show_table
from vlmprune.sweep_record import FOLDER, SweepRecord


def conduct(settings: list[str], jobs: list[Job], launcher: Launcher, split: SweepSettings) -> int:
    """Run `jobs`, which were planned from `settings` as typed; return the exit code."""
    stopped = 0
    with shared_benchmarks():
        jobs = examine(jobs, launcher.here)
        check(launcher, [job.config for job in jobs if job.record.status == "waiting" and not job.finished])
        board = begin(jobs, settings, split)
        try:
            finished, rest = tasks_of(jobs, board)
            InProcess().run(finished, board)  # without a model; their answers may still need a judge
            if rest and not board.halted:
                with board.shown(workers=isinstance(launcher, WorkerLauncher)):
                    launch(launcher, rest, board)
        except KeyboardInterrupt as error:
            stopped = stop_code(error)
        finally:
            board.interrupted()
    counts = board.counts()
    own = [] if jobs[0].config.config_dir is None else ["--config-dir", jobs[0].config.config_dir]
    again = shlex.join(["vlmprune", "sweep", *own, *settings])
    left = counts["stopped"] + counts["waiting"]
    show_table(board.record.jobs, f"{again}   (goes on)" if left else compare_command(board.outputs))
    if stopped:
        say(f"stopped, and nothing is lost; the same command goes on: {again}")
        return stopped
    return 1 if counts["failed"] else 0


def begin(jobs: list[Job], settings: list[str], split: SweepSettings) -> Board:
    """Write the sweep's record and print its first lines. Raise UserError if the outputs folder cannot be written."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = SweepRecord(group_of(jobs), settings, split.launcher, now, now, [job.record for job in jobs])
    outputs = Path(jobs[0].config.outputs)
    try:
        (outputs / FOLDER / record.group).mkdir(parents=True, exist_ok=True)
        record.write(outputs)
    except OSError as error:
        raise UserError(f"outputs folder {outputs} cannot be used: {error}") from error
    board = Board(jobs, record, outputs, split.fail_fast)
    say(first_line(jobs, f"launcher={split.launcher} · {outputs / FOLDER / record.group}.json"))
    for job in jobs:
        if job.record.status == "not_applicable":
            say(f"NOT APPLICABLE {job.title}: {job.record.reason}")
    return board


def first_line(jobs: list[Job], rest: str) -> str:
    """Return a line such as '7 jobs: 4 new, 1 partly done, 2 finished · ' with `rest` after it."""
    able = [job for job in jobs if job.record.status == "waiting"]
    partly = sum(bool(job.record.answered) and not job.finished for job in able)
    finished = sum(job.finished for job in able)
    counts = {"new": len(able) - partly - finished, "partly done": partly, "finished": finished}
    counts["not applicable"] = len(jobs) - len(able)
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{len(jobs)} job{'s' if len(jobs) > 1 else ''}: {told} · {rest}"


def tasks_of(jobs: list[Job], board: Board) -> tuple[list[Task], list[Task]]:
    """Return two lists of launcher tasks: those of finished jobs, and those of all other jobs that can run."""
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    group = board.record.group
    finished, rest = list[Task](), list[Task]()
    for number, job in enumerate(jobs, start=1):
        if job.record.status != "waiting":
            continue
        job.record.log = f"{FOLDER}/{group}/{number:03d}.log"
        log = str((board.outputs / job.record.log).absolute())
        where = (job.config.config_dir, group, os.getcwd(), model_key(job), log, environment)
        (finished if job.finished else rest).append(Task(number, job.overrides, *where))
    return finished, rest


def group_of(jobs: list[Job]) -> str:
    """Return the sweep's id. It depends on the set of jobs and not on their order."""
    combinations = sorted(" ".join(job.overrides) for job in jobs)
    return "sweep-" + hashlib.sha256("\n".join(combinations).encode()).hexdigest()[:8]


def compare_command(outputs: Path) -> str:
    """Return the command that shows the results."""
    return "vlmprune compare" + ("" if outputs == Path("outputs") else f" {shlex.quote(f'outputs={outputs}')}")
