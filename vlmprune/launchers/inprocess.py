"""launcher=inprocess: one job after the other, in the process of the sweep. The model stays loaded between them."""

from __future__ import annotations

from dataclasses import dataclass

from vlmprune.config import RunConfig
from vlmprune.launchers.base import Launcher, Task, Watch
from vlmprune.launchers.task import run_task_here


@dataclass
class InProcess(Launcher):
    """The default launcher, without settings."""

    def check(self, configs: list[RunConfig], dry: bool = False) -> None:
        from vlmprune.distributed.started import process_count  # imports torch, which delays a typo's error

        for config in configs:
            process_count(config)

    def run(self, tasks: list[Task], watch: Watch) -> None:
        for task in tasks:
            if watch.halted:
                return
            watch.started(task.number)
            watch.ended(task.number, run_task_here(task))
