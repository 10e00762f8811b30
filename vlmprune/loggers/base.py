"""Base class of experiment loggers, which mirror the run directory, and the guard around a user's own."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmprune.errors import Terminated, UserError
from vlmprune.loggers.wandb_upload import Uploads
from vlmprune.own_code import call, describe_value, error_line, is_own, qualified_name
from vlmprune.terminal import say


@dataclass
class Logger:
    """Base of all loggers; its methods do nothing. A choice's YAML gives the fields of a subclass.

    A logger can neither fail a run nor change it. A user's logger gets copies, and any exception of it,
    also sys.exit() and KeyboardInterrupt, is one line of warning, after which it is not called again; a ValueError of
    its __post_init__ refuses a setting. There is no protection from a logger that hangs or calls os._exit().
    """

    def place(self, directory: Path, outputs: Path) -> None:
        """Set the folders to write to: the run's directory, and the outputs folder that holds it."""
        self.directory, self.outputs = directory, outputs

    def set_uploads(self, uploads: Uploads) -> None:
        """Set the uploads that earlier runs of the process started, to which this run adds its own."""

    def start(self, config: dict[str, Any], fingerprint: str, group: str | None) -> None:
        """Begin a run.

        config: all settings, with the choices' names, and under `environment` the record of environment.json. group:
        id of the sweep, if any.
        """

    def log_progress(self, values: dict[str, float]) -> None:
        """Mirror the state of a run under way, every few seconds while it answers questions.

        values: `questions` answered so far, also before it was resumed, `questions_per_s`, and unless they have to be
        judged their mean `score` with `score_low` and `score_high`, its 95 % interval. Of a run in several processes
        these are the questions of the first one.
        """

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


CONSTRUCTION = "__post_init__"  # the code of a dataclass that runs when it is built


def guard_logger(cls: type, build: Callable[[], Logger]) -> Logger:
    """Return the logger of class `cls` that `build` makes, guarded if the class is a user's own.

    Raises UserError for a setting, since the run has not begun and nothing is lost.
    """
    if not is_own(cls):
        return build()
    guard = GuardedLogger(cls)
    guard.attempt(CONSTRUCTION, lambda: setattr(guard, "logger", build()))
    return guard


class GuardedLogger(Logger):
    """Wrapper of a user's logger, which is not called again after its first exception."""

    def __init__(self, cls: type) -> None:
        self.cls, self.logger, self.works = cls, NoLogger(), True

    def place(self, directory: Path, outputs: Path) -> None:
        self.attempt("place", lambda: call(self.logger, "place", directory, outputs))

    def start(self, config: dict[str, Any], fingerprint: str, group: str | None) -> None:
        self.attempt("start", lambda: call(self.logger, "start", deepcopy(config), fingerprint, group))

    def log_progress(self, values: dict[str, float]) -> None:
        self.attempt("log_progress", lambda: call(self.logger, "log_progress", dict(values)))

    def log_result(self, result: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        self.attempt("log_result", lambda: call(self.logger, "log_result", deepcopy(result), deepcopy(samples)))

    def finish(self, exit_code: int) -> None:
        self.attempt("finish", lambda: call(self.logger, "finish", exit_code))

    @property
    def line(self) -> str | None:
        found: list[Any] = [None]
        self.attempt("line", lambda: found.append(self.logger.line))
        if found[-1] is not None and not isinstance(found[-1], str):
            self.warn(f"{qualified_name(self.cls, 'line')} is {describe_value(found[-1])}, expected text or None")
            return None
        return found[-1]

    def attempt(self, name: str, step: Callable[[], Any]) -> None:
        """Do one step if none failed before; an exception of the user's code becomes a warning."""
        if not self.works:
            return
        stops = InterruptMonitor()
        try:
            with stops:
                step()
        except Terminated:
            raise
        except UserError as error:
            if name == CONSTRUCTION:
                raise
            self.warn(str(error))
        # Everything: the code is the user's, and no exception of it may end a run. Ctrl-C still does.
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            if stops.seen:
                raise
            self.warn(error_line(error) or f"{qualified_name(self.cls, name)} raised {type(error).__name__}: {error}")

    def warn(self, why: str) -> None:
        """Print the warning; the logger is not called again."""
        self.works = False
        say(f"warning: {' '.join(why.split())}; the run continues without this logger")


class InterruptMonitor:
    """Context whose `seen` is True after Ctrl-C at the keyboard, not after a KeyboardInterrupt raised by code."""

    def __init__(self) -> None:
        self.seen = False

    def __enter__(self) -> None:
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.getsignal(signal.SIGINT)
            if callable(self._before):
                signal.signal(signal.SIGINT, self._note)

    def __exit__(self, *_: object) -> None:
        if callable(self._before):
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: Any) -> None:
        self.seen = True
        self._before(number, frame)
