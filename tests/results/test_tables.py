"""Tables in every format, and in terminals of all widths: nothing is cut off, and a pipe gets a line per row."""

from __future__ import annotations

import re
from operator import itemgetter

import pytest

from vlmprune.cli import main
from vlmprune.cli.listing import markdown
from vlmprune.results.tables import FORMATS, Column, Report, Table, column_legend

TABLE = Table(
    "",
    [
        Column("job", itemgetter(0), left=True),
        Column("tokens", itemgetter(1)),
        Column("layer avg", itemgetter(2), droppable=1),
        Column("", itemgetter(3), left=True),
    ],
    [
        ["method=cls ratio=0.5 positions=renumber benchmark=pope", "72 of 144", "72", "new"],
        ["method=scm ratio=0.5 positions=renumber benchmark=pope", "", "", "NOT APPLICABLE  tiles are needed for it"],
    ],
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
    assert TABLE.print_terminal() == gone
    shown = plain(capsys.readouterr().out)
    assert len(shown.splitlines()) == lines
    # A row that stands apart has its name in one line, which the terminal breaks.
    assert all(len(line) <= width or line.startswith("method=") for line in shown.splitlines())
    cells = [cell for row in TABLE.rows for name, cell in zip(TABLE.titles, row, strict=True) if name not in gone]
    assert set(words(" ".join(cells))) <= set(words(shown))


def test_equal_cells_of_a_row_that_stands_apart_are_said_once(narrow, capsys):
    narrow(30)
    columns = [Column(name, itemgetter(at)) for at, name in enumerate(["method=", "llava", "qwen", "internvl"])]
    Table("", columns, [["tome", "yes", "no layers", "yes"]]).print_terminal()
    assert plain(capsys.readouterr().out) == "tome\n    llava, internvl: yes ·\n    qwen: no layers\n"


@pytest.mark.parametrize("kind", ["models", "methods", "benchmarks", "matrix"])
@pytest.mark.parametrize("width", [80, 100, 140])
def test_list_loses_nothing_without_a_name(narrow, capsys, kind, width):
    assert main(["list", kind]) == 0
    piped = capsys.readouterr().out.splitlines()
    assert all(line[0] != " " for line in piped if line)  # every line is a row: `vlmprune list models | grep llava`
    assert all(line == line.rstrip() for line in piped)
    narrow(width)
    assert main(["list", kind]) == 0
    shown = plain(capsys.readouterr().out)
    assert "…" not in shown and max(map(len, shown.splitlines())) <= width
    table, _, left_out = shown.partition("left out for lack of width: ")
    gone = " ".join(left_out.split()).removesuffix(" (a pipe or a file gets all)").split(", ") if left_out else []
    header, *rows = markdown_cells(kind)
    kept = [at for at, title in enumerate(header) if title not in gone]
    assert all(title in header for title in gone)
    assert set(words(" ".join(row[at] for row in rows for at in kept))) <= set(words(table))
    if kind != "matrix":  # a table, of which the first columns stay
        assert table.split()[:2] == [header[0], "title"]
        assert sum(line[:1] != " " for line in table.splitlines() if line) == 1 + len(rows)


def markdown_cells(kind: str) -> list[list[str]]:
    """The cells of `list`, without the line below the header."""
    lines = markdown(kind).replace("`", "").splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in (lines[0], *lines[2:])]


def test_folded_cells_are_broken_between_words(narrow, capsys):
    narrow(60)
    text = "extraordinary improvements of intelligibility everywhere"
    columns = [Column("a", itemgetter(0), left=True, fold=0), Column("b", itemgetter(1))]
    Table("", columns, [[text, "9" * 43]]).print_terminal()
    shown = plain(capsys.readouterr().out).split()
    assert [word for word in shown if word.isalpha()] == ["a", "b", *text.split()]


def test_jobs_can_be_told_apart_in_80_columns(narrow, capsys):
    narrow(80)
    settings = ["method=cls", "ratio=0.5,0.9", "limit=4", "logger=none", "device=cpu"]
    assert main(["sweep", "--dry-run", *settings]) == 0
    shown = plain(capsys.readouterr().out)
    assert "…" not in shown and "left out for lack of width: of unpruned" in shown
    for method in ("random", "cls"):
        for ratio in ("0.5", "0.9"):
            assert f"method={method} ratio={ratio}" in shown


NAMES = [Column("name", itemgetter(0), left=True), Column("n", itemgetter(1), "how many", name="#")]
REPORT = Report(
    [Table("a *b*", NAMES, ["x1", "y2"], apart=True, notes=["a <c>"], caption="50 %")],
    column_legend(NAMES),
    records=[{"name": "x", "n": 1}, {"name": "y", "m": None}],
    data={"n": 1},
    above=["above"],
    remarks=["a | d"],
    notes=["note"],
)
PRINTED = {
    "table": ("above\n\na *b*\n\nname  n\nx     1\n\ny     2\na <c>\n\na | d\n\n#  how many\n\nnote\n", ""),
    "markdown": (
        "above\n\n### a *b*\n\n| name | n |\n| --- | ---: |\n| x | 1 |\n| y | 2 |\n\na \\<c>\n\na \\| d\n\n"
        "#: how many\n\nnote\n",
        "",
    ),
    "csv": ("name,n,m\nx,1,\ny,,\n", "above\nnote\n"),
    "json": ('{\n  "n": 1\n}\n', ""),
}


@pytest.mark.parametrize("style", PRINTED)
def test_formats(style, capsys):
    REPORT.print(style)
    assert capsys.readouterr() == PRINTED[style]


def test_latex(capsys):
    REPORT.print("latex")
    out, err = capsys.readouterr()
    assert out.startswith("% needs ") and r"\caption{a $\ast$b$\ast$. 50 \%.}" in out
    assert out.index(r"\belowcaptionskip}{6pt}") < out.index(r"\caption") < out.index(r"\toprule")
    assert out.count("tabular}") == 2 and "@{}lr@{}" in out and "    y & 2 \\\\\n" in out
    assert err == "above\na | d\nnote\n" and FORMATS.keys() == {*PRINTED, "latex"}
