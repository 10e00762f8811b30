"""A terminal shows the text as it is: brackets and :codes: are no markup."""

from __future__ import annotations

import io

import pytest
import rich.console

from vlmprune.terminal import PLAIN, progress_bar, results_console

TEXT = "[/x] [bold]y[/bold] :smile: [link=file:///etc]z"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Every console writes here, as to a terminal of 200 columns."""
    screen = io.StringIO()

    class Terminal(rich.console.Console):
        def __init__(self, **options: object) -> None:
            options.pop("stderr", None)
            super().__init__(**options | {"file": screen, "force_terminal": True, "width": 200, "color_system": None})

    monkeypatch.setattr(rich.console, "Console", Terminal)
    return screen


def test_a_title_with_brackets(terminal: io.StringIO) -> None:
    with progress_bar(TEXT, 3) as advance:
        advance(3)
    assert TEXT in terminal.getvalue()


def test_lines_and_cells_with_brackets(terminal: io.StringIO) -> None:
    from rich.table import Table

    table = Table(show_header=True)
    table.add_column(TEXT)
    table.add_row(TEXT)
    results_console().print(TEXT)
    results_console().print(table)
    assert terminal.getvalue().count(TEXT) == 3
    assert PLAIN["markup"] is False
