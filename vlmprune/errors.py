"""Exceptions that are shown as one line, the exit codes they lead to, and descriptions of ended processes."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

FAULTS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    ImportError,
    RuntimeError,
)
LONGEST = 1200  # characters of a message; a list of all benchmarks is a third of it


class UserError(Exception):
    """Bad input. The message names the value, what is allowed and the nearest match, in one printable line."""

    def __str__(self) -> str:
        # A value may hold line ends, terminal codes or a long text: it is escaped, and its middle is left out.
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in super().__str__())
        return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


class NotApplicable(UserError):
    """A method that this model cannot run with these settings: an error in a run, a table row in a sweep.

    reason: the cause alone. instead: the remedy, which only the message of the error contains.
    """

    def __init__(self, reason: str, instead: str = "") -> None:
        super().__init__(reason + instead)
        self.reason = reason


class IdleSetting(UserError):
    """A setting that cannot change anything in this run: an error of a run; among several jobs, one runs without it.

    setting: its name as it is typed. why: without what could be done instead.
    """

    def __init__(self, setting: str, value: object, why: str, instead: str = "leave it out") -> None:
        super().__init__(f"{setting}={value}: {why}; {instead}")
        self.setting, self.why = setting, why


class NotFinite(UserError, RuntimeError):
    """Features or scores of a prompt that are nan or infinite, so that no choice of its tokens means anything."""


class ProcessLost(Exception):
    """Loss of one of the processes that share a run: one line, exit code 1. The run can be resumed."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, handled like Ctrl-C; its argument is the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def find_stop(error: BaseException | None) -> KeyboardInterrupt | None:
    """Return the Ctrl-C or signal that `error` is, or during which it was raised; None if there was none.

    A library that is stopped in the middle may raise an error of its own while it cleans up.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def stop_code(error: KeyboardInterrupt) -> int:
    """Return the exit code of a command that was stopped, as in shells: 128 plus the signal's number."""
    return 128 + (error.number if isinstance(error, Terminated) else signal.SIGINT)


def error_text(error: BaseException, longest: int = 200) -> str:
    """Return a library's error message on one line of at most `longest` characters, for a message of ours."""
    return " ".join(str(error).split())[:longest]


@contextmanager
def user_error_on_failure(why: str, instead: str) -> Iterator[None]:
    """Raise UserError `why (error); instead` for any error that a library raises inside on an unexpected file."""
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        # A panic of Rust code (tokenizers, safetensors) is not an Exception, and its class cannot be imported.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise UserError(f"{why} ({type(error).__name__}: {error_text(error)}); {instead}") from error


def check_choice(value: str, allowed: Iterable[str], what: str) -> str:
    """Return `value` if it is one of `allowed`, else raise a UserError with these and the nearest match."""
    options = sorted(allowed)
    if value in options:
        return value
    raise UserError(f"{what} '{value}' does not exist{nearest(value, options)}; allowed: {', '.join(options)}")


def nearest(value: str, options: Iterable[str]) -> str:
    """Return ' (did you mean X?)' if one of `options` is close to `value`, else ''."""
    close = difflib.get_close_matches(value[:100], list(options), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def describe_exit(code: int) -> str:
    """Return text for a subprocess's return code: 'exit code 1', 'killed by SIGKILL, as when memory runs out'."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}" + (", as when memory runs out" if name == "SIGKILL" else "")
