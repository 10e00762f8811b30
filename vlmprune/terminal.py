"""Output while a command works: lines on stderr, and a progress bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

# Printed texts may come from anywhere: [bold] and :smile: are printed literally. A style is given beside the text.
PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}


def say(line: str) -> None:
    """Print one line on stderr; only results go to stdout."""
    print(line, file=sys.stderr, flush=True)


def results_console() -> Console:
    """Return rich's console on stdout, without markup; in a pipe or a file it breaks no line."""
    from rich.console import Console

    console = Console(**PLAIN)
    return console if console.is_terminal else Console(**PLAIN, width=10_000)


@contextmanager
def progress_bar(title: str, total: int, done: int = 0, unit: str = "questions") -> Iterator[Callable[[int], None]]:
    """Yield `advance(n)`, which moves a bar with the time left on a terminal; elsewhere only print a first line."""
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
