"""Loggers and launchers of a user's own that break the contract of their base class."""

from __future__ import annotations

from tests.robustness.hostile.table import Hostile
from tests.robustness.own_class import with_members

LOGGER = """\
import sys
from dataclasses import dataclass, field
from vlmprune.loggers.base import Logger

@dataclass
class Own(Logger):
    pass
"""

LOGGED = with_members(
    "logger",
    LOGGER,
    [
        (f"{function} {what}", f"def {function}:\n    {body}", "Own", *named)
        for function in (
            "place(self, directory, outputs)",
            "start(self, config, fingerprint, group)",
            "log_result(self, result, samples)",
            "finish(self, exit_code)",
        )
        for what, body, *named in [
            ("raises", "1 / 0", "ZeroDivisionError", "the run continues"),
            ("exits", "sys.exit(5)", "SystemExit", "the run continues"),
            ("has another signature", "return self.nothing.there", "AttributeError"),
        ]
    ]
    + [
        ("the constructor raises", "def __post_init__(self):\n    1 / 0", "Own", "ZeroDivisionError"),
        ("the line raises", "line = property(lambda self: 1 / 0)", "Own.line", "ZeroDivisionError"),
        ("the line is a number", "line = property(lambda self: 3)", "Own.line", "3"),
        ("start takes nothing", "def start(self):\n    pass", "Own.start", "cannot be called"),
        (
            "it changes the result",
            "def log_result(self, result, samples):\n    result.clear()\n    samples.clear()\n    1 / 0",
            "Own.log_result",
            "accuracy",
        ),
        (
            "it changes the config",
            "def start(self, config, fingerprint, group):\n    config.clear()\n    1 / 0",
            "Own.start",
            "accuracy",
        ),
    ],
    code=0,
) + with_members(
    "logger",
    LOGGER,
    [
        ("a setting that its class refuses", "def __post_init__(self):\n    raise ValueError('no key')", "no key"),
        ("a setting of an unknown type", "level: 'Level' = 1", "Own", "Level"),
    ],
)

LAUNCHER = """\
import sys
from dataclasses import dataclass, field
from vlmprune.launchers.base import Launcher, Outcome, Worker, WorkerLauncher

@dataclass
class Own(Launcher):
    def run(self, tasks, watch):
        for task in tasks:
            watch.started(task.number)
            watch.ended(task.number, Outcome("done", score=0.5))
"""

WORKERS = """\
import sys
from dataclasses import dataclass
from vlmprune.launchers.base import Outcome, Worker, WorkerLauncher

class Hand(Worker):
    def begin(self, task): pass
    def outcome(self): return Outcome("done", score=0.5)
    def stop(self): pass

@dataclass
class Own(WorkerLauncher):
    def hire(self, tasks, folder):
        return [Hand()]
"""

RUN = "def run(self, tasks, watch):\n    "
HIRE = "def hire(self, tasks, folder):\n    "
LAUNCHED = [
    *with_members(
        "launcher",
        LAUNCHER,
        [
            ("check raises", "def check(self, configs, dry=False):\n    1 / 0", "Own.check", "ZeroDivision"),
            ("run raises", f"{RUN}1 / 0", "Own.run", "ZeroDivision"),
            ("run exits", f"{RUN}sys.exit(0)", "Own.run", "SystemExit"),
            ("the constructor raises", "def __post_init__(self):\n    1 / 0", "Own.__post_init__"),
        ],
        code=1,
    ),
    *with_members(
        "launcher",
        LAUNCHER,
        [
            ("it runs nothing", f"{RUN}pass", "Own.run", "of 1"),
            ("an outcome of text", f"{RUN}watch.ended(1, 'done')", "Own.run", "'done'", "Outcome"),
            ("a task that there is not", f"{RUN}watch.ended(9, Outcome('done'))", "Own.run", "9"),
            ("a status that there is not", f"{RUN}watch.ended(1, Outcome('great'))", "Own.run", "great"),
            ("check takes nothing", "def check(self):\n    pass", "Own.check", "cannot be called"),
        ],
    ),
    *with_members(
        "launcher",
        WORKERS,
        [
            ("it hires nobody", f"{HIRE}return []", "Own.hire", "[]"),
            ("it hires nothing", f"{HIRE}return None", "Own.hire", "None"),
            ("it hires names", f"{HIRE}return ['a']", "Own.hire", "'a'"),
        ],
    ),
    *with_members("launcher", WORKERS, [("hiring raises", f"{HIRE}1 / 0", "Own.hire", "ZeroDivision")], code=1),
]

CASES: list[Hostile] = [*LOGGED, *LAUNCHED]
