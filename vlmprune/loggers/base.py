"""What an experiment logger is. It mirrors the run directory, which stays the only record that anything relies on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Logger:
    """Base of all loggers, and the one that does nothing. A choice's YAML gives the fields of a subclass.

    A logger can neither fail a run nor change it. One of a user's own is given copies (guard.py), and whatever it
    raises, sys.exit() and KeyboardInterrupt among it, is one line of warning, after which it is not called again; a
    ValueError of its __post_init__ refuses a setting. Nothing ends a logger that hangs or calls os._exit().
    """

    def place(self, directory: Path, outputs: Path) -> None:
        """Say where to write: the run's own directory, and the outputs folder that it belongs to."""
        self.directory, self.outputs = directory, outputs

    def start(self, config: dict[str, Any], fingerprint: str, group: str | None) -> None:
        """A run begins. config: all settings, with the choices' names; group: id of the sweep, if any."""

    def log_result(self, result: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        """Mirror result.json and some of the lines of predictions.jsonl, which is all of them in `samples`."""

    def finish(self, exit_code: int) -> None:
        """The run is over: 0 done, anything else failed."""

    @property
    def line(self) -> str | None:
        """Where the mirror is, for the summary that a person reads; None where there is none."""
        return None


@dataclass
class NoLogger(Logger):
    """logger=none: the run directory alone."""
