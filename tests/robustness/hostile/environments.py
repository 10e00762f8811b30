"""Where a command runs: what stands in place of its folders, and variables that say nonsense.

With code 0: what is odd and harmless, and must be no more than a line.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.robustness.hostile.table import Hostile, nothing

RUN = ("run", "method=none", "limit=2", "latency_samples=0", "show.samples=0", "logger=none")


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def folder_of(folder: Path) -> Path:
    """The run directory of RUN, whose name has a fingerprint: the command itself tells it."""
    from vlmprune.config.settings import compose_run
    from vlmprune.evaluation.plan import make_plan

    config = compose_run([*RUN[1:], f"outputs={folder / 'outputs'}"])
    path = make_plan(config).directory.path
    path.mkdir(parents=True)
    return path


def lock_is(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Put something in place of the lock of that run directory."""
    return lambda folder: make(folder_of(folder) / ".lock") and None


def outputs_are(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Put something in place of the outputs folder."""
    return lambda folder: make(folder / "outputs") and None


def place(
    name: str, outputs: str, prepare: Callable[[Path], None] = nothing, *named: str, quick: bool = False
) -> Hostile:
    """A run whose outputs folder cannot be there."""
    return Hostile("environments", name, (*RUN, f"outputs={outputs}"), named or ("outputs",), prepare, quick=quick)


def odd(name: str, *arguments: str, code: int = 0, **environment: str) -> Hostile:
    """A command with odd variables, which must do its work."""
    return Hostile(
        "environments",
        name,
        arguments or ("list", "methods"),
        code=code,
        environment=environment,
        quick="VLMPRUNE_TRACEBACK" in environment,
    )


PLACES = [
    place("outputs is a file", "outputs", outputs_are(lambda path: path.write_text("here"))),
    place("outputs is in a file", "outputs/deeper", outputs_are(lambda path: path.write_text("here"))),
    place("outputs is a FIFO", "outputs", outputs_are(os.mkfifo)),
    place("outputs is a circle of links", "outputs", outputs_are(link_to("outputs"))),
    place("outputs is a link to nowhere", "outputs", outputs_are(link_to("/proc/nowhere/outputs"))),
    place("outputs is in /proc", "/proc/self/outputs"),
    place("outputs is in /sys", "/sys/outputs"),
    place("outputs is /dev/null", "/dev/null"),
    place("outputs is in /dev/full", "/dev/full/outputs"),
    place("outputs is a path of 4,000 characters", "/".join(["a" * 200] * 20)),
    place("the lock is a FIFO", "outputs", lock_is(os.mkfifo), ".lock"),
    place("the lock is a folder", "outputs", lock_is(Path.mkdir), ".lock"),
    place("the lock is a link to nowhere", "outputs", lock_is(link_to("/proc/nowhere/lock")), ".lock"),
    place("the lock is a circle of links", "outputs", lock_is(link_to(".lock")), ".lock"),
    place("the lock is /dev/full", "outputs", lock_is(link_to("/dev/full")), ".lock"),
]
COMMANDS = (("list", "methods"), ("list", "benchmarks"), ("--help",), ("run", "--cfg"))
VARIABLES = {
    "COLUMNS": ("0", "-1", "1", "abc", "9" * 400),
    "LINES": ("0", "abc"),
    "TERM": ("dumb", "nonsense", ""),
    "FORCE_COLOR": ("1", "nonsense"),
    "NO_COLOR": ("1",),
    "TZ": ("Nonsense/Nowhere", ":/etc/passwd", "A" * 5000),
    "LANG": ("nonsense", "xx_YY.UTF-99"),
    "LC_ALL": ("nonsense",),
    "HOME": ("/proc/nowhere", "/dev/null", "", "relative"),
    "XDG_CACHE_HOME": ("/dev/null/cache", "relative"),
    "XDG_CONFIG_HOME": ("/dev/null",),
    "TMPDIR": ("/proc/nowhere", "/dev/null"),
    "HYDRA_FULL_ERROR": ("1", "nonsense"),
    "VLMPRUNE_TRACEBACK": ("", "0", "nonsense"),
    "WORLD_SIZE": ("1",),
}
WORLDS = {
    "WORLD_SIZE": ("0", "-1", "abc", "1e9", "9" * 400, ""),
    "RANK": ("-1", "7", "abc"),
    "LOCAL_RANK": ("-1", "abc"),
    "MASTER_PORT": ("abc", "99999", "0", "-1"),
    "MASTER_ADDR": ("", "\x01", "a" * 300),
}
LAUNCHED = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}
CASES = [
    *PLACES,
    *(
        odd(f"{name}={value[:20]!r}, {' '.join(command)}", *command, **{name: value})
        for name, values in VARIABLES.items()
        for number, value in enumerate(values)
        for command in COMMANDS[number % 4 :][:1]
    ),
    *(
        Hostile(
            "environments",
            f"launched with {name}={value[:20]!r}",
            (*RUN, "outputs=outputs"),
            environment=LAUNCHED | {name: value},
            quick=name == "RANK",
        )
        for name, values in WORLDS.items()
        for value in values
    ),
]
