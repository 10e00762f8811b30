"""A hostile input: what stands in the folder, what is typed there, and what the one line must name.

The tables are the other modules of this folder, one for each kind of input.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

LONGEST_SECONDS = 10.0  # after which an input is said to hang


def nothing(folder: Path) -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Hostile:
    """One input.

    kind: the table it is counted in, such as "overrides". name: unique within it.
    arguments: after `vlmprune`. prepare: writes files into the current folder of the command.
    named: what the last line on stderr must contain (the file, the field, the value).
    code: 2; 0 where the command must go on without what is broken, and name it on stderr or stdout; 1 where a user's
        own code raises, whose traceback then has no frame of vlmprune's and ends in the line.
    quick: answered in milliseconds without torch; these are in `make test` (at most 60 in all).
    environment: variables of the process, for inputs that are such.
    """

    kind: str
    name: str
    arguments: tuple[str, ...]
    named: tuple[str, ...] = ()
    prepare: Callable[[Path], None] = nothing
    code: int = 2
    quick: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Name in pytest's output."""
        return ascii(f"{self.kind}: {self.name}")[1:-1]


def hostile_inputs() -> list[Hostile]:
    """Return every input of every table."""
    package = importlib.import_module("tests.robustness.hostile")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    tables = [name for name in names if not name.startswith("test_") and name != "table"]
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in tables]
    return [case for module in modules for case in module.CASES]


def verdict(case: Hostile, code: int, stdout: str, stderr: str) -> str:
    """Return "" where the input ended as it must, else how it ended: "hang", "traceback", or in words."""
    if code == -9:
        return "hang"
    traceback = stderr.partition("Traceback (most recent call last)")[2]
    if traceback and (case.code != 1 or "/vlmprune/" in traceback):
        return "traceback"
    if code != case.code:
        return f"exit code {code}"
    lines = stderr.strip().splitlines()
    where = lines[-1] if case.code and lines else stderr + stdout
    if case.code and not where.startswith("vlmprune: "):
        return "no line of vlmprune's"
    if absent := [name for name in case.named if name not in where]:
        return f"does not name {absent[0]}"
    return ""
