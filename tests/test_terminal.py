"""A terminal shows the text as it is: brackets and :codes: are no markup."""

from __future__ import annotations

import io

import pytest
import rich.console

from vlmprune.terminal import PLAIN, fit_help, print_pairs, print_result, progress_bar, results_console, wrap_prose

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


def test_sentences_break_between_words_and_commands_not_at_all() -> None:
    line = "- note: no random pruning at as many tokens as cls: vlmprune sweep method=random ratio=0.95,0.6 limit=60"
    assert wrap_prose(line, 200) == line
    assert wrap_prose(line, 40) == (
        "- note: no random pruning at as many\n  tokens as cls:\n  vlmprune sweep method=random ratio=0.95,0.6 limit=60"
    )
    assert wrap_prose("  model: a-very-long-name b", 20) == "  model:\n  a-very-long-name b"
    two_lines = "\nfiles  outputs/speed/tiny/1.json\nchart  outputs/speed/tiny/1.png"
    assert wrap_prose(two_lines, 40) == two_lines


def test_a_result_has_no_blanks_at_the_ends_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("a", "long cell")
    table.add_row("b", "")
    print_result(table)
    print_result("x " * 200)
    assert capsys.readouterr().out == f"a  long cell\nb\n{'x ' * 199}x\n"


def test_texts_of_pairs_stay_in_their_column(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "30")
    print_pairs([("prefill", "5.55 ms median (p90 6.08), unpruned 10.4 ms"), ("", "no name")])
    assert capsys.readouterr().out == (
        "prefill  5.55 ms median (p90\n         6.08), unpruned\n         10.4 ms\n         no name\n"
    )


def test_help_fits_the_terminal() -> None:
    text = """first words of
a paragraph

  vlmprune run method=cls ratio=0.95 device=cuda
  vlmprune run --all   all of the runs there are
  name   the meaning of a setting here

"""
    assert (
        fit_help(text, 34)
        == """first words of a paragraph

  vlmprune run method=cls ratio=0.95 device=cuda
  vlmprune run --all
      all of the runs there are
  name   the meaning of a setting
         here

"""
    )
