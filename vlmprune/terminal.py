"""Lines and progress bars on stderr, and output streams that never end a command.

Characters that the terminal's encoding lacks are written as escapes.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import re
import select
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console


# Printed texts may come from anywhere: [bold] and :smile: are printed literally. A style is given beside the text.
PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}


UNBROKEN = 10_000  # columns of a pipe or a file, where a row is one line
HELP_WIDTH = 120  # most characters in a line of help
TWO_COLUMNS = re.compile(r"( +\S.*? {2,})(\S.*)")
COMMAND = re.compile(r"(?<=: )vlmprune .*")  # a command at the end of a sentence


def say(text: str) -> None:
    """Print text on stderr, on a terminal with lines broken between words; only results go to stdout."""
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else UNBROKEN
    print(wrap_prose(text, width), file=sys.stderr, flush=True)


def results_console() -> Console:
    """Return rich's console on stdout, without markup; in a pipe or a file it breaks no line."""
    from rich.console import Console

    console = Console(**PLAIN)
    return console if console.is_terminal else Console(**PLAIN, width=UNBROKEN)


def print_result(content: Any = "", **options: Any) -> None:
    """Print text or a rich table on stdout, without blanks at the ends of lines; text is not broken."""
    console = results_console()
    with console.capture() as captured:
        console.print(content, soft_wrap=isinstance(content, str), **options)
    sys.stdout.write("\n".join(line.rstrip(" ") for line in captured.get().split("\n")))


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and texts on stdout in two columns; on a narrow terminal a text is wrapped in its own column."""
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, text in pairs:
        table.add_row(name, text)
    print_result(table)


def print_prose(line: str) -> None:
    """Print a line of text on stdout, on a terminal broken between words."""
    print(wrap_prose(line, results_console().width))


def wrap_prose(text: str, width: int) -> str:
    """Return text with each line broken between words, indented as it is; a command at its end stays one line."""
    return "\n".join(_wrap_line(line, width) for line in text.split("\n"))


def _wrap_line(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    command = COMMAND.search(line)
    sentence = line[: command.start()].rstrip() if command else line
    body = sentence.lstrip(" -")
    lead = sentence[: len(sentence) - len(body)]
    lines = textwrap.wrap(
        body,
        max(width, 20),
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join([*lines, *([f"  {command[0]}"] if command else [])])


def help_width() -> int:
    """Return the width of a line of help on stdout: the terminal's, at most 120 characters."""
    return min(HELP_WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else HELP_WIDTH


def fit_help(text: str, width: int) -> str:
    """Return a help text broken between words to `width` characters; its paragraphs are not indented.

    In an indented line the text after a gap is wrapped in its own column. A command stays one line, to copy.
    """
    lines = list[str]()
    for indented, group in itertools.groupby(text.split("\n"), lambda line: line[:1] in ("", " ")):
        if not indented:
            lines.append(textwrap.fill(" ".join(group), width, break_long_words=False, break_on_hyphens=False))
            continue
        for line in group:
            parts = TWO_COLUMNS.fullmatch(line)
            if parts is None or len(line) <= width:
                lines.append(line)
                continue
            name, about = parts.groups()
            column = len(name) if len(name) <= width - 24 else 6
            body = textwrap.wrap(about, width - column, break_long_words=False, break_on_hyphens=False)
            if column < len(name):
                lines.append(name.rstrip())
                name = ""
            lines += [(name if not at else "").ljust(column) + each for at, each in enumerate(body)]
    return "\n".join(lines)


def format_duration(seconds: float) -> str:
    """Return a duration as text: '0.4 s', '12 s', '3.5 min', '2.1 h'."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def format_rate(count: float, seconds: float, unit: str) -> str:
    """Return a rate as text, such as '363 questions/s' or '0.31 questions/s'; '' for nothing, or in no time."""
    if seconds <= 0 or not count:
        return ""
    rate = count / seconds
    return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s"


SILENT, LONGEST_SILENCE = 1.0, 60.0  # seconds between lines of progress, at least and at most
REDRAW = 0.1  # seconds between two states of a bar, at least


class ProgressLines:
    """Progress of work without a terminal: a first line, and one with each further tenth or minute.

    Quick work prints few of them: no line comes within a second of the last one, nor at the end.
    """

    def __init__(self, title: str, total: int | None, done: int, unit: str) -> None:
        self.title, self.total, self.done, self.unit = title, total, done, unit
        self._before, self._begun = done, time.monotonic()
        self._told, self._tenths = self._begun, self._tenth()
        say(title if total is None else f"{title}: {total - done:,} {unit}")

    def advance(self, count: int) -> None:
        """Count more done; print a line if it is time for one."""
        self.done += count
        now, tenths = time.monotonic(), self._tenth()
        silence = now - self._told
        if self.total is None or self.done >= self.total:
            return
        if silence >= LONGEST_SILENCE or (silence >= SILENT and tenths > self._tenths):
            self._told, self._tenths = now, tenths
            say(self._line(self.total, now - self._begun))

    def _tenth(self) -> int:
        return 10 * self.done // self.total if self.total else 0

    def _line(self, total: int, seconds: float) -> str:
        new = self.done - self._before
        line = f"{self.title}: {self.done:,} of {total:,} {self.unit} ({100 * self.done / total:.0f} %)"
        left = format_duration(seconds / new * (total - self.done)) if new else ""
        return ", ".join([line, *([format_rate(new, seconds, self.unit), f"{left} left"] if new else [])])


@contextmanager
def progress_bar(
    title: str, total: int | None, done: int = 0, unit: str = "questions", transient: bool = False
) -> Iterator[Callable[[int], None]]:
    """Yield `advance(n)`: on a terminal it moves a bar with rate and time left, elsewhere it prints `ProgressLines`.

    total: None where no part of the work is counted. transient: erase the bar at the end.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, **PLAIN)
    if not console.is_terminal:
        yield ProgressLines(title, total, done, unit).advance
        return
    text, rate = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[rate]}", markup=False)
    bar = BarColumn(max(4, min(40, console.width - len(title) - 44)))  # the numbers need the rest
    counted = (text, bar, MofNCompleteColumn(), rate, TimeRemainingColumn())
    columns = (text, bar, TimeElapsedColumn()) if total is None else counted
    # A counted bar is drawn when it moves, between two timed calls, and not by a thread in the middle of one.
    with Progress(*columns, console=console, transient=transient, auto_refresh=total is None) as progress:
        task = progress.add_task(title, total=total, completed=done, rate="")
        begun, drawn, new = time.monotonic(), 0.0, 0

        def advance(count: int) -> None:
            nonlocal new, drawn
            new, now = new + count, time.monotonic()
            due = now - drawn >= REDRAW
            drawn = now if due else drawn
            progress.update(task, advance=count, rate=format_rate(new, now - begun, unit), refresh=due)

        yield advance


class Phases:
    """The phases of a piece of work. Each is shown while it lasts; `summary` names all with their seconds."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._took: dict[str, tuple[float, int]] = {}

    @contextmanager
    def show(self, name: str, total: int | None = None, done: int = 0) -> Iterator[Callable[[int], None]]:
        """Show the phase `name` while the block runs, and yield `advance(n)`. total: of its questions, if it has any;
        done: answered before."""
        start, new = time.monotonic(), 0
        with progress_bar(f"{self.title} · {name}", total, done, transient=True) as advance:

            def count(questions: int) -> None:
                nonlocal new
                new += questions
                advance(questions)

            yield count
        self._took[name] = max(0.0, time.monotonic() - start), new

    def summary(self, rated: str) -> str:
        """Return a line such as 'cls ratio=0.95 · load 0.4 s, answers 2.8 s (363 questions/s), timing 1.1 s'.

        rated: the phase whose rate is told.
        """
        parts = []
        for name, (seconds, questions) in self._took.items():
            rate = format_rate(questions, seconds, "questions") if name == rated else ""
            parts.append(f"{name} {format_duration(seconds)}" + (f" ({rate})" if rate else ""))
        return f"{self.title} · {', '.join(parts)}"


class SafeOutput(io.RawIOBase):
    """A file descriptor to which writing always succeeds. lost: the error after which output is dropped, or None."""

    def __init__(self, number: int, lost: OSError | None = None) -> None:
        super().__init__()
        self.number, self.lost = number, lost

    def fileno(self) -> int:
        return self.number

    def isatty(self) -> bool:
        return self.lost is None and os.isatty(self.number)

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        left = memoryview(data)
        while self.lost is None and left:
            try:
                left = left[os.write(self.number, left) :]
            except BlockingIOError:  # a non-blocking pipe whose reader is slow
                select.select([], [self.number], [])
            except OSError as error:
                self.lost = error
        return len(data)


def open_streams() -> None:
    """Replace sys.stdout and sys.stderr by streams over SafeOutputs, unless they were replaced before."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: else the next opened file would get this number, and the printed text
            os.open(os.devnull, os.O_RDWR)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _wrap_descriptor(number, stream))


def _wrap_descriptor(number: int, stream: TextIO | None) -> TextIO:
    """Return a text stream over a SafeOutput. stream: the interpreter's, None if the descriptor was closed at start."""
    if stream is None:
        outlet, encoding = SafeOutput(number, OSError(errno.EBADF, "it is closed")), "utf-8"
    else:
        with suppress(OSError):
            stream.flush()
        outlet, encoding = SafeOutput(number), stream.encoding
    return io.TextIOWrapper(
        io.BufferedWriter(outlet),  # type: ignore[type-var]
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=number == 2 or outlet.isatty(),
    )


def write_error(stream: TextIO) -> OSError | None:
    """Return the error for which output to a stream of `open_streams` was dropped; None if all was written."""
    stream.flush()
    outlet = getattr(getattr(stream, "buffer", None), "raw", None)
    return outlet.lost if isinstance(outlet, SafeOutput) else None
