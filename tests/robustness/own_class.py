"""Modules that hold one class of a user's own, beside a config folder that names it, and the commands that use it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from textwrap import indent

from tests.robustness.hostile.table import Hostile

QUIET = ("--config-dir", "configs", "limit=2", "latency_samples=0", "show.samples=0", "logger=none")
ARGUMENTS = {
    "method": ("run", *QUIET, "benchmark=scenes", "method=own", "ratio=0.5"),
    "benchmark": ("run", *QUIET, "benchmark=own", "method=none"),
    "logger": ("run", *QUIET[:-1], "benchmark=scenes", "method=none", "logger=own"),
    "launcher": ("sweep", *QUIET, "benchmark=scenes", "method=none", "baselines=false", "launcher=own"),
}
INFO = dict.fromkeys(ARGUMENTS, "{title: own}") | {
    "benchmark": "{title: own, task: own, size: 3 questions, metric: accuracy, hub: none, needs_judge: false}"
}
QUICK = (
    "method: a stage that there is not",
    "method: count returns a float",
    "method: a setting that its class refuses",
    "method: fields without @dataclass",
    "method: an import that raises",
    "method: schedule returns a stage before layer 0",
    "benchmark: load returns nothing",
)
_numbers = count(1)


def module(group: str, name: str, source: str) -> Callable[[Path], None]:
    """Return what writes the module `name` and a choice `own` of `group` whose class it has."""

    def write(folder: Path) -> None:
        (folder / f"{name}.py").write_text(source)
        (folder / "configs" / group).mkdir(parents=True)
        (folder / "configs" / group / "own.yaml").write_text(f"_target_: {name}.Own\ninfo: {INFO[group]}\n")

    return write


def own(group: str, name: str, source: str, *named: str, code: int = 2) -> Hostile:
    """Return the case of a module with this source."""
    name = f"{group}: {name}"
    prepare = module(group, f"own_class_{next(_numbers)}", source)
    return Hostile("own classes", name, ARGUMENTS[group], named, prepare, code, quick=name in QUICK)


def with_members(group: str, template: str, rows: Iterable[tuple[str, ...]], code: int = 2) -> list[Hostile]:
    """Return a case for each row (name, body, *named): the class of `template` with `body` in it."""
    return [own(group, name, f"{template}{indent(body, '    ')}\n", *named, code=code) for name, body, *named in rows]


def returning(
    group: str, template: str, function: str, rows: Iterable[tuple[str, ...]], title: str = "", code: int = 2
) -> list[Hostile]:
    """Return a case for each row (what, value, *named): the class of `template` whose `function` returns `value`.

    function: with its arguments, such as "score(self, signals)". title: what the case's name calls it.
    """
    name = function.partition("(")[0]
    return with_members(
        group,
        template,
        [
            (f"{title or name} returns {what}", f"def {function}:\n    return {value}", f"Own.{name}", *named)
            for what, value, *named in rows
        ],
        code,
    )


def tried_as_commands(every: list[Hostile]) -> list[Hostile]:
    """Return all that is quick or does not end in exit code 2, and a sixth of the rest.

    tests/robustness/test_own_classes.py tries all that ends in exit code 2 in one process, where it takes milliseconds.
    """
    return [case for number, case in enumerate(every) if case.code != 2 or case.quick or number % 6 == 0]
