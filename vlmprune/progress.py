"""What is printed while a run works: lines on stderr, a progress bar where a person watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

# What is shown may be anyone's text: [bold] and :smile: are shown as they are. A style is given beside the text.
PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}


def say(line: str) -> None:
    """One line for the person at the terminal; results alone go to stdout."""
    print(line, file=sys.stderr, flush=True)


def results_console() -> Console:
    """rich on stdout; in a pipe or a file there is no screen to fit, and no line is broken. No text is markup in it."""
    from rich.console import Console

    console = Console(**PLAIN)
    return console if console.is_terminal else Console(**PLAIN, width=10_000)


@contextmanager
def progress_bar(title: str, total: int, done: int = 0, unit: str = "questions") -> Iterator[Callable[[int], None]]:
    """Yields `advance(n)`. A bar with the time left in a terminal, nothing but a first line elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, **PLAIN)
    if not console.is_terminal:
        say(f"{title}: {total - done} {unit}")
        yield lambda _n: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total, completed=done)
        yield lambda n: progress.advance(task, n)
