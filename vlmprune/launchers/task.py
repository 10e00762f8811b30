"""One task of a sweep, from its settings to its outcome, and the launcher that runs tasks in this process."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from vlmprune.config.secret_check import without_secrets
from vlmprune.config.settings import RunConfig, compose_run
from vlmprune.errors import ProcessLost, UserError, find_stop
from vlmprune.launchers.base import Launcher, Outcome, Task, Watch
from vlmprune.machine import WAITING, resource_message
from vlmprune.own_code import failing_method

if TYPE_CHECKING:
    from vlmprune.evaluation.plan import Plan, Resources

# Variables that decide where models, datasets and logs are found, and how threads wait. Keys are not among them: no
# task file may hold one.
SHARED_VARIABLES = (
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "WANDB_MODE",
    "WANDB_DIR",
    "WANDB_BASE_URL",
    *WAITING,
)


def run_task(task: Task, log: TextIO, resources: Resources, plan: Plan | None = None) -> Outcome:
    """Run a task and return its outcome, also of a failure; KeyboardInterrupt and SystemExit are raised.

    log: file for the traceback of a failure. resources: shared by the tasks of the process. plan: None to make it.
    """
    from vlmprune.evaluation.plan import make_plan
    from vlmprune.run import run

    start = time.perf_counter()
    directory = None
    try:
        if plan is None:
            plan = make_plan(compose_run(task.overrides, task.config_dir), resources)
        directory, finished = str(plan.directory.path), (plan.directory.path / "result.json").exists()
        result = run(plan, resources, task.group)
    except Exception as error:  # the sweep continues with its other jobs, so the traceback goes to the log
        if (stop := find_stop(error)) is not None:
            raise stop from error
        if isinstance(error, UserError | ProcessLost):
            return Outcome("failed", without_secrets(str(error)), None, directory, time.perf_counter() - start)
        with suppress(OSError):  # a full disk, which may be the reason of the failure
            log.write(without_secrets(traceback.format_exc()))
        raiser = failing_method(error)  # in a user's own class
        where = f" (raised by {raiser})" if raiser else ""
        kind = f"{type(error).__name__}: {' '.join(str(error).split())}{where}"
        reason = without_secrets(resource_message(error) or kind)
        return Outcome("failed", reason, None, directory, time.perf_counter() - start)
    seconds = time.perf_counter() - start
    return Outcome("skipped" if finished else "done", "", result["answers"]["score"], directory, seconds)


class TaskRunner:
    """Runs tasks in a worker's process, one after the other. Tasks with the same model load it once."""

    def __init__(self) -> None:
        self._resources: Resources | None = None

    def run(self, task: Task) -> Outcome:
        """Run a task and return its outcome; all that it writes to the terminal goes to the log."""
        os.environ.update(task.environment)  # first, since libraries read it when they are imported
        os.chdir(task.folder)
        if task.config_dir and (package := os.path.dirname(task.config_dir)) not in sys.path:
            sys.path.insert(0, package)  # a user's package is beside the config folder
        with log_file(task.log) as log, redirect_terminal(log):
            from vlmprune.evaluation.plan import Resources

            self._resources = self._resources or Resources()
            return run_task(task, log, self._resources)


@contextmanager
def log_file(path: str) -> Iterator[TextIO]:
    """Open a file to append to, or os.devnull if the disk refuses it; the run's files then report that error."""
    try:
        log = open(path, "a", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115  (closed below)
    except OSError:
        log = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        yield log
    finally:
        with suppress(OSError):
            log.close()


@contextmanager
def redirect_terminal(log: TextIO) -> Iterator[None]:
    """Redirect to `log` all that this process writes to stdout and stderr inside the block, also from C code."""
    kept = [os.dup(number) for number in (1, 2)]
    try:
        for number in (1, 2):
            os.dup2(log.fileno(), number)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)


@dataclass
class InProcess(Launcher):
    """The default launcher, without settings."""

    def set_plans(self, plans: dict[int, Plan], resources: Resources) -> None:
        """Set the plans of the tasks, by number, and what their runs share; before `run`."""
        self._plans, self._resources = plans, resources

    def check(self, configs: list[RunConfig], dry: bool = False) -> None:
        from vlmprune.distributed.processes import process_count  # imports torch, which delays a typo's error

        for config in configs:
            process_count(config)

    def run(self, tasks: list[Task], watch: Watch) -> None:
        for task in tasks:
            if watch.halted:
                return
            watch.started(task.number)
            # The result that a run prints goes to the log; its progress bar is shown.
            with log_file(task.log) as log, redirect_stdout(log):
                outcome = run_task(task, log, self._resources, self._plans[task.number])
            watch.ended(task.number, outcome)
