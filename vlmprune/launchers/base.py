"""Base classes of launchers, and the checks of a user's own launcher.

A launcher with workers only defines the worker; `WorkerLauncher` hands out the tasks for all of them.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, get_args, get_type_hints

from vlmprune.config.settings import RunConfig
from vlmprune.errors import UserError
from vlmprune.own_code import BrokenContract, call, is_own, qualified_name, refuse

POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Task:
    """One job as plain data, all that a worker in another process or on another machine receives.

    folder: the working folder of the sweep's process. model: tasks of the same value share a loaded model.
    log: file for the printed text of the run. environment: variables that every worker must set alike.
    """

    number: int
    overrides: list[str]
    config_dir: str | None
    group: str
    folder: str
    model: str
    log: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Result of a task. status: `skipped` if its run was finished already. reason: of a failure, one line."""

    status: Literal["done", "skipped", "failed"]
    reason: str = ""
    score: float | None = None
    directory: str | None = None
    seconds: float | None = None


class Watch(Protocol):
    """Callbacks by which a launcher reports a job's progress."""

    @property
    def halted(self) -> bool:
        """Return True if no further task may start and running ones must stop."""

    def started(self, number: int) -> None:
        """Report that a task was given to a worker."""

    def ended(self, number: int, outcome: Outcome) -> None:
        """Report that a task is done, skipped or failed."""

    def tick(self) -> None:
        """Report that nothing changed for a moment."""


@dataclass
class Launcher(ABC):
    """Base of all launchers. A choice's YAML gives the fields of a subclass.

    A user's launcher is checked: after `run` each task has an Outcome, unless the watch halted.
    """

    here: ClassVar[bool] = True  # jobs run on this machine, so that settings beyond it are refused beforehand

    def check(self, configs: list[RunConfig], dry: bool = False) -> None:
        """Raise UserError if these runs cannot be launched. No job has started yet; if dry, none will."""
        return None

    @abstractmethod
    def run(self, tasks: list[Task], watch: Watch) -> None:
        """Run all tasks, also after failures of others. KeyboardInterrupt leaves nothing running."""


class Worker(ABC):
    """Base of workers, each of which runs one task at a time."""

    model: str | None = None  # of the last task, still loaded

    @abstractmethod
    def begin(self, task: Task) -> None:
        """Start a task; returns at once."""

    @abstractmethod
    def outcome(self) -> Outcome | None:
        """Return the outcome of the task, a failure if the worker died of it; None while it runs."""

    def ask_to_stop(self) -> None:
        """Ask the worker to end, also within a task, whose run can then be resumed; returns at once."""
        return None

    @abstractmethod
    def stop(self) -> None:
        """End the worker, also within a task, and wait until it has ended."""


@dataclass
class WorkerLauncher(Launcher):
    """Base of launchers that hand out tasks to workers."""

    @abstractmethod
    def hire(self, tasks: list[Task], folder: Path) -> list[Worker]:
        """Return at least one worker, at most one per task. folder: for the workers' files."""

    @contextmanager
    def submitting(self) -> Iterator[None]:
        """Enclose the start of tasks that are handed out at one time."""
        yield

    def close(self) -> None:
        """Release what the workers shared, after all of them have stopped."""
        return None

    def run(self, tasks: list[Task], watch: Watch) -> None:
        waiting, busy = list(tasks), dict[int, Task]()
        workers: list[Worker] = []
        try:
            hired = self.hire(tasks, Path(tasks[0].log).parent)
            if not isinstance(hired, list) or not hired or not all(isinstance(worker, Worker) for worker in hired):
                refuse(self, "hire", hired, "a list of Worker, at least one")
            workers = hired
            while (waiting or busy) and not watch.halted:
                idle = [worker for worker in workers if id(worker) not in busy]
                if waiting and idle:
                    with self.submitting():
                        for worker in idle[: len(waiting)]:
                            task = next_task(waiting, worker, workers)
                            waiting.remove(task)
                            worker.model, busy[id(worker)] = task.model, task
                            worker.begin(task)
                            watch.started(task.number)
                ended = [
                    (worker, outcome) for worker in workers if id(worker) in busy and (outcome := worker.outcome())
                ]
                for worker, outcome in ended:
                    watch.ended(busy.pop(id(worker)).number, outcome)
                if not ended:
                    watch.tick()
                    time.sleep(POLL_SECONDS)
        finally:
            for worker in workers:
                worker.ask_to_stop()
            for worker in workers:
                worker.stop()
            self.close()


def next_task(waiting: list[Task], worker: Worker, workers: list[Worker]) -> Task:
    """Return a task whose model the worker has loaded; else one whose model no worker has; else the first."""
    taken = {each.model for each in workers}
    own = (task for task in waiting if task.model == worker.model)
    free = (task for task in waiting if task.model not in taken)
    return next(own, None) or next(free, waiting[0])


def need(module: str, extra: str, what: str) -> None:
    """Raise UserError if the optional package `module` is not installed. what: the setting that needs it."""
    if find_spec(module) is None:
        raise UserError(f"{what}: {module} is not installed; pip install 'vlmprune[{extra}]'")


STATUSES = get_args(get_type_hints(Outcome)["status"])


def check_runs(launcher: Launcher, configs: list[RunConfig], **dry: bool) -> None:
    """Call `Launcher.check`. Raises UserError."""
    if is_own(type(launcher)):
        call(launcher, "check", function=partial(launcher.check, configs, **dry))
    else:
        launcher.check(configs, **dry)


def launch_tasks(launcher: Launcher, tasks: list[Task], watch: Watch) -> None:
    """Call `Launcher.run`. Raises BrokenContract if it reports an invalid outcome or leaves a task without one."""
    if not is_own(type(launcher)):
        launcher.run(tasks, watch)
        return
    checked = CheckedWatch(launcher, tasks, watch)
    call(launcher, "run", tasks, checked)
    if checked.open and not watch.halted:
        raise BrokenContract(
            f"{qualified_name(launcher, 'run')}: {len(checked.open)} of {len(tasks)} tasks have no outcome after it; "
            "expected watch.ended(number, outcome) for each"
        )


class CheckedWatch:
    """The sweep's watch with checks of a user's reports. open: numbers of the tasks that have no outcome yet."""

    def __init__(self, launcher: Launcher, tasks: list[Task], watch: Watch) -> None:
        self.launcher, self.watch = launcher, watch
        self.numbers = {task.number for task in tasks}
        self.open = {*self.numbers}

    @property
    def halted(self) -> bool:
        return self.watch.halted

    def started(self, number: int) -> None:
        self._check_number(number)
        self.watch.started(number)

    def ended(self, number: int, outcome: Outcome) -> None:
        self._check_number(number)
        about = f"task {number}"
        if not isinstance(outcome, Outcome):
            refuse(self.launcher, "run", outcome, "an Outcome", about)
        if outcome.status not in STATUSES:
            refuse(self.launcher, "run", outcome.status, f"a status of {', '.join(STATUSES)}", about)
        for name, kind in (("reason", str), ("score", float | None), ("directory", str | None)):
            value: Any = getattr(outcome, name)
            if not isinstance(value, int | kind if name == "score" else kind):
                refuse(self.launcher, "run", value, f"an outcome's {name} as {kind}", about)
        self.open.discard(number)
        self.watch.ended(number, outcome)

    def tick(self) -> None:
        self.watch.tick()

    def _check_number(self, number: Any) -> None:
        if number not in self.numbers:
            refuse(self.launcher, "run", number, f"a task's number: {sorted(self.numbers)}")
