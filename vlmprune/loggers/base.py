"""Base class of experiment loggers. They mirror the run directory, which is the only record that others read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Logger:
    """Base of all loggers; its methods do nothing. A choice's YAML gives the fields of a subclass.

    A logger can neither fail a run nor change it. A user's logger gets copies (guard.py), and any exception of it,
    also sys.exit() and KeyboardInterrupt, is one line of warning, after which it is not called again; a ValueError of
    its __post_init__ refuses a setting. There is no protection from a logger that hangs or calls os._exit().
    """

    def place(self, directory: Path, outputs: Path) -> None:
        """Set the folders to write to: the run's directory, and the outputs folder that holds it."""
        self.directory, self.outputs = directory, outputs

    def start(self, config: dict[str, Any], fingerprint: str, group: str | None) -> None:
        """Begin a run. config: all settings, with the choices' names; group: id of the sweep, if any."""

    def log_result(self, result: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        """Mirror result.json and some lines of predictions.jsonl. samples: all of its lines."""

    def finish(self, exit_code: int) -> None:
        """End the run. exit_code: 0 is done, anything else failed."""

    @property
    def line(self) -> str | None:
        """Return the place of the mirror for the printed summary; None if there is none."""
        return None


@dataclass
class NoLogger(Logger):
    """logger=none: the run directory is the only record."""
