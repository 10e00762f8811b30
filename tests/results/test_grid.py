"""Tables in terminals of all widths: nothing is cut off, and a pipe gets a line per row."""

from __future__ import annotations

import re

import pytest

from vlmprune.cli import main
from vlmprune.results.grid import Grid

GRID = Grid(
    "",
    ["job", "tokens", "layer avg", ""],
    [
        ["method=cls ratio=0.5 positions=renumber benchmark=pope", "72 of 144", "72", "new"],
        ["method=scm ratio=0.5 positions=renumber benchmark=pope", "", "", "NOT APPLICABLE  tiles are needed for it"],
    ],
    left={"job", ""},
    droppable=["layer avg"],
    wrapped={"job", ""},
)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch):
    """A terminal of some width."""

    def set_width(columns: int) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(columns))

    return set_width


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def words(text: str) -> list[str]:
    return sorted(re.findall(r"[\w=.]+", text))


@pytest.mark.parametrize(
    ("width", "gone", "lines"),
    [(140, [], 3), (90, [], 5), (70, ["layer avg"], 5), (40, [], 6)],
)
def test_cells_are_folded_columns_go_and_rows_stand_apart(narrow, capsys, width, gone, lines):
    narrow(width)
    assert GRID.print_terminal() == gone
    shown = plain(capsys.readouterr().out)
    assert len(shown.splitlines()) == lines
    # A row that stands apart has its name in one line, which the terminal breaks.
    assert all(len(line) <= width or line.startswith("method=") for line in shown.splitlines())
    cells = [cell for row in GRID.rows for name, cell in zip(GRID.columns, row, strict=True) if name not in gone]
    assert set(words(" ".join(cells))) <= set(words(shown))


def test_equal_cells_of_a_row_that_stands_apart_are_said_once(narrow, capsys):
    narrow(30)
    Grid("", ["method=", "llava", "qwen", "internvl"], [["tome", "yes", "no layers", "yes"]]).print_terminal()
    assert plain(capsys.readouterr().out) == "tome\n    llava, internvl: yes ·\n    qwen: no layers\n"


@pytest.mark.parametrize("kind", ["models", "methods", "benchmarks", "matrix"])
def test_list_loses_nothing(narrow, capsys, kind):
    assert main(["list", kind]) == 0
    _, *piped = capsys.readouterr().out.strip().splitlines()
    assert all(line[0] != " " for line in piped)  # in a pipe every line is a row: `vlmprune list models | grep llava`
    for width in (80, 120):
        narrow(width)
        assert main(["list", kind]) == 0
        shown = plain(capsys.readouterr().out)
        assert "…" not in shown and max(map(len, shown.splitlines())) <= width
        assert set(words(" ".join(piped))) <= set(words(shown))


def test_jobs_can_be_told_apart_in_80_columns(narrow, capsys):
    narrow(80)
    settings = ["method=cls", "ratio=0.5,0.9", "limit=4", "logger=none", "device=cpu"]
    assert main(["sweep", "--dry-run", *settings]) == 0
    shown = plain(capsys.readouterr().out)
    assert "…" not in shown and "left out for lack of width: of unpruned" in shown
    for method in ("random", "cls"):
        for ratio in ("0.5", "0.9"):
            assert f"method={method} ratio={ratio}" in shown
