"""Checks of a user's own launcher, at each call of a sweep and at each outcome that it reports."""

from __future__ import annotations

from functools import partial
from typing import Any, get_args, get_type_hints

from vlmprune.config import RunConfig
from vlmprune.launchers.base import Launcher, Outcome, Task, Watch
from vlmprune.own_code import BrokenContract, call, is_own, refuse, titled

STATUSES = get_args(get_type_hints(Outcome)["status"])


def check(launcher: Launcher, configs: list[RunConfig], **dry: bool) -> None:
    """Call `Launcher.check`. Raises UserError."""
    if is_own(type(launcher)):
        call(launcher, "check", function=partial(launcher.check, configs, **dry))
    else:
        launcher.check(configs, **dry)


def launch(launcher: Launcher, tasks: list[Task], watch: Watch) -> None:
    """Call `Launcher.run`. Raises BrokenContract if it reports an invalid outcome or leaves a task without one."""
    if not is_own(type(launcher)):
        launcher.run(tasks, watch)
        return
    checked = CheckedWatch(launcher, tasks, watch)
    call(launcher, "run", tasks, checked)
    if checked.open and not watch.halted:
        raise BrokenContract(
            f"{titled(launcher, 'run')}: {len(checked.open)} of {len(tasks)} tasks have no outcome after it; "
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
