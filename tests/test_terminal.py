"""A terminal shows the text as it is: brackets and :codes: are no markup."""

from __future__ import annotations

import io
import threading

import pytest
import rich.console

from vlmprune import terminal as module
from vlmprune.terminal import (
    PLAIN,
    Phases,
    fit_help,
    format_duration,
    format_rate,
    print_pairs,
    print_result,
    progress_bar,
    results_console,
    wrap_prose,
)

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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


class Clock:
    """A clock that a test sets, in place of the module `time`."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_without_a_terminal_there_is_a_line_each_tenth(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("answers", 1000) as advance:
        for _ in range(50):
            clock.now += 2
            advance(20)
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == "answers: 1,000 questions" and len(lines) == 9  # the end is told by what follows
    assert lines[0] == "answers: 100 of 1,000 questions (10 %), 10 questions/s, 1.5 min left"
    assert lines[-1] == "answers: 900 of 1,000 questions (90 %), 10 questions/s, 10 s left"


def test_quick_work_prints_a_line_a_second_and_slow_work_one_a_minute(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("answers", 1000, 500) as advance:
        for _ in range(20):
            clock.now += 0.125
            advance(25)
    assert capsys.readouterr().err.splitlines() == [
        "answers: 500 questions",
        "answers: 700 of 1,000 questions (70 %), 200 questions/s, 1.5 s left",
        "answers: 900 of 1,000 questions (90 %), 200 questions/s, 0.5 s left",
    ]
    with progress_bar("verdicts", 1000, unit="verdicts") as advance:
        for _ in range(5):
            clock.now += 30
            advance(1)
        clock.now += 60
        advance(0)
    assert capsys.readouterr().err.splitlines() == [
        "verdicts: 1,000 verdicts",
        "verdicts: 2 of 1,000 verdicts (0 %), 0.033 verdicts/s, 8.3 h left",
        "verdicts: 4 of 1,000 verdicts (0 %), 0.033 verdicts/s, 8.3 h left",
        "verdicts: 5 of 1,000 verdicts (0 %), 0.024 verdicts/s, 11.6 h left",
    ]


def test_phases_are_named_with_their_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    phases = Phases("cls ratio=0.9")
    with phases.show("load"):
        clock.now += 0.4
    with phases.show("answers", 1000, 400) as advance:
        clock.now += 2
        advance(600)
    assert phases.summary("answers") == "cls ratio=0.9 · load 0.4 s, answers 2.0 s (300 questions/s)"
    assert capsys.readouterr().err.splitlines() == ["cls ratio=0.9 · load", "cls ratio=0.9 · answers: 600 questions"]


@pytest.mark.parametrize("total", [None, 40])
def test_a_phase_on_a_terminal_is_erased(total: int | None, terminal: io.StringIO) -> None:
    phases = Phases("cls")
    with phases.show("answers", total, 10) as advance:
        advance(30)
    shown = terminal.getvalue()
    assert "cls · answers" in shown and shown.endswith("\x1b[2K")  # the line of the bar is cleared
    if total:
        assert "40/40" in shown and "questions/s" in shown
    assert phases.summary("timing") == "cls · answers 0.0 s"


def test_a_counted_bar_is_drawn_by_no_thread(terminal: io.StringIO) -> None:
    """It would take time of the calls that are timed meanwhile."""
    before = threading.active_count()
    with progress_bar("timing", 16) as advance:
        advance(1)
        assert threading.active_count() == before


def test_durations_and_rates() -> None:
    assert [format_duration(s) for s in (0.44, 45, 200, 9000)] == ["0.4 s", "45 s", "3.3 min", "2.5 h"]
    found = [format_rate(count, 4, "questions") for count in (14_000, 50, 15, 0.9)]
    assert found == ["3,500 questions/s", "12 questions/s", "3.8 questions/s", "0.23 questions/s"]
    assert format_rate(7, 0, "questions") == format_rate(0, 7, "questions") == ""


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
