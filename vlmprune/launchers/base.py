"""What a launcher is: it is given tasks, runs each somewhere, and tells a watch what became of it.

A launcher with workers only says what a worker is; handing out tasks is the same for all of them.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from vlmprune.config import RunConfig
from vlmprune.errors import UserError
from vlmprune.own_code import refuse

POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Task:
    """One job as plain data, which is all that a worker in another process or on another machine is given.

    folder: the working folder of whoever started the sweep. model: tasks where it is the same share a model.
    log: file for what the run prints. environment: variables that must be the same wherever the run is.
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
    """What became of a task. status: `skipped` if its run was finished already. reason: of a failure, one line."""

    status: Literal["done", "skipped", "failed"]
    reason: str = ""
    score: float | None = None
    directory: str | None = None
    seconds: float | None = None


class Watch(Protocol):
    """Who is told."""

    @property
    def halted(self) -> bool:
        """Whether no further task is to be started and running ones are to be stopped."""

    def started(self, number: int) -> None:
        """A task was given to a worker."""

    def ended(self, number: int, outcome: Outcome) -> None:
        """A task is done or failed."""

    def tick(self) -> None:
        """Nothing happened for a moment."""


@dataclass
class Launcher(ABC):
    """Base of all launchers. A choice's YAML gives the fields of a subclass.

    One of a user's own is checked (contract.py): each task has an Outcome in the end, or the watch halted.
    """

    here: ClassVar[bool] = True  # whether jobs run on this machine, so that what it lacks is refused beforehand

    def check(self, configs: list[RunConfig], dry: bool = False) -> None:
        """Raise a UserError where these runs cannot be launched so. Nothing was started yet, and if dry never will."""
        return None

    @abstractmethod
    def run(self, tasks: list[Task], watch: Watch) -> None:
        """Run all tasks, each whatever becomes of the others. KeyboardInterrupt leaves nothing running."""


class Worker(ABC):
    """Runs one task at a time."""

    model: str | None = None  # of the last task: it is still loaded

    @abstractmethod
    def begin(self, task: Task) -> None:
        """Start a task; returns at once."""

    @abstractmethod
    def outcome(self) -> Outcome | None:
        """What became of the task, a failure where the worker died of it; None while it runs."""

    def ask_to_stop(self) -> None:
        """Begin to end, also in the middle of a task, whose run can then be resumed; returns at once."""
        return None

    @abstractmethod
    def stop(self) -> None:
        """The same, and wait for it."""


@dataclass
class WorkerLauncher(Launcher):
    """Base of launchers that hand out tasks to workers."""

    @abstractmethod
    def hire(self, tasks: list[Task], folder: Path) -> list[Worker]:
        """A list of at least one worker, at most one per task. folder: for files of theirs."""

    @contextmanager
    def submitting(self) -> Iterator[None]:
        """Around the tasks that are handed out at one time."""
        yield

    def close(self) -> None:
        """All workers are stopped."""
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
    """One whose model the worker has loaded; else one whose model nobody has; else the first."""
    taken = {each.model for each in workers}
    own = (task for task in waiting if task.model == worker.model)
    free = (task for task in waiting if task.model not in taken)
    return next(own, None) or next(free, waiting[0])


def need(module: str, extra: str, what: str) -> None:
    """Raise a UserError where an optional package is not installed."""
    if find_spec(module) is None:
        raise UserError(f"{what}: {module} is not installed; pip install 'vlmprune[{extra}]'")
