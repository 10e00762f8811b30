"""Tables for the terminal, markdown and LaTeX, with recorded text escaped."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"$<$",
    ">": r"$>$",
    "*": r"$\ast$",
    "|": r"\textbar{}",
    "[": "{[}",  # after \\ a bare one would be read as the line break's argument
    "·": r"\textperiodcentered{}",
    "–": "--",
}


def terminal_line(text: str) -> str:
    """Return text as one terminal line: a line break becomes \\n, an unprintable character U+FFFD."""
    shown = text.replace("\r", "").replace("\n", "\\n").replace("\t", " ")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in shown)


def latex_text(text: str) -> str:
    """Return text escaped for LaTeX; '-' before a digit becomes a minus sign, and '-' alone a dash."""
    if text == "-":
        return "--"
    escaped = "".join(LATEX.get(letter, letter) for letter in text)
    return f"$-${escaped[1:]}" if text[:1] == "-" and text[1:2].isdigit() else escaped


def markdown_text(text: str) -> str:
    """Return text escaped for a cell of a markdown table."""
    for mark in ("\\", "*", "|", "<"):
        text = text.replace(mark, f"\\{mark}")
    return text


GAP = 2  # characters between columns
ROOM_TO_FOLD = 24  # smallest width of a folded column in characters


def dropped_columns_line(columns: Iterable[str], elsewhere: str = "format=csv has everything") -> str:
    """Return the line that names the columns dropped for lack of width. elsewhere: says where to find them."""
    return f"left out for lack of width: {', '.join(columns)} ({elsewhere})"


@dataclass
class Grid:
    """A table with a heading. left: columns aligned left; bold: for each row, True to print it bold in a terminal.

    If a terminal is too narrow, cells of the columns in `wrapped` are wrapped, then the columns of `droppable` are
    dropped one by one, and at last every row is printed as lines of text. No cell is truncated.
    """

    heading: str
    columns: list[str]
    rows: list[list[str]]
    left: set[str] = field(default_factory=set)
    bold: list[bool] = field(default_factory=list)
    droppable: list[str] = field(default_factory=list)
    wrapped: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.heading = terminal_line(self.heading)
        self.rows = [[terminal_line(cell) for cell in row] for row in self.rows]

    def print_terminal(self) -> list[str]:
        """Print a table that fits the terminal; return the columns that were dropped for lack of width."""
        from vlmprune.terminal import results_console

        console = results_console()
        columns, gone = list(self.columns), []
        widths = self._widths(columns, console.width)
        for name in self.droppable:
            if widths is not None:
                break
            if name in columns:
                columns.remove(name)
                gone.append(name)
                widths = self._widths(columns, console.width)
        if self.heading:
            console.print(f"\n{self.heading}\n", style="bold", soft_wrap=True)
        if widths is not None:
            console.print(self._rich(widths))
            return gone
        for row in self.rows:
            self._print_apart(row, console)
        return []

    def _widths(self, columns: Sequence[str], room: int) -> dict[str, int] | None:
        """Return the width of each of `columns` in characters; None if they do not fit into `room`."""
        from rich.cells import cell_len

        cells = dict(zip(self.columns, zip(self.columns, *self.rows, strict=True), strict=True))
        natural = {name: max(map(cell_len, cells[name])) for name in columns}
        widths = {name: min(width, ROOM_TO_FOLD) if name in self.wrapped else width for name, width in natural.items()}
        spare = room - sum(widths.values()) - GAP * (len(columns) - 1)
        if spare < 0:
            return None
        for name, width in widths.items():
            more = min(natural[name] - width, spare)
            widths[name], spare = width + more, spare - more
        return widths

    def _rich(self, widths: dict[str, int]) -> Any:
        """Return a rich table of the columns in `widths`."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
        for name, width in widths.items():
            table.add_column(name, justify="left" if name in self.left else "right", overflow="fold", width=width)
        for number, row in enumerate(self.rows):
            shown = [Text(cell) for name, cell in zip(self.columns, row, strict=True) if name in widths]  # no markup
            table.add_row(*shown, style="bold" if self.bold and self.bold[number] else None)
        return table

    def _print_apart(self, row: list[str], console: Any) -> None:
        """Print a row as lines of text: its name, then the other cells with the titles of their columns."""
        named = next(at for at, name in enumerate(self.columns) if name) + 1
        console.print(" ".join(filter(None, row[:named])), style="bold", soft_wrap=True)
        titles: dict[str, list[str]] = {}  # cells with equal text are printed once
        for title, cell in zip(self.columns[named:], row[named:], strict=True):
            titles.setdefault(cell, []).append(title)
        said = [f"{', '.join(names)}: {cell}".removeprefix(": ") for cell, names in titles.items() if cell]
        for line in textwrap.wrap(
            " · ".join(said), max(20, console.width - 4), break_long_words=False, break_on_hyphens=False
        ):
            console.print(f"    {line}", soft_wrap=True)

    def markdown(self) -> str:
        """Return a table in GitHub's markdown under its heading."""
        lines = [f"### {self.heading}", "", f"| {' | '.join(self.columns)} |"]
        lines.append(f"|{'|'.join(' --- ' if column in self.left else ' ---: ' for column in self.columns)}|")
        lines += [f"| {' | '.join(markdown_text(cell) for cell in row)} |" for row in self.rows]
        return "\n".join(lines)

    def latex(self, note: str) -> str:
        r"""Return a table environment for booktabs and graphicx, scaled down if it is wider than the text. note: text
        of the caption after the heading."""
        shape = "".join("l" if column in self.left else "r" for column in self.columns)
        rows = [rf"    {' & '.join(map(latex_text, row))} \\" for row in self.rows]
        return "\n".join(
            [
                r"\begin{table}",
                r"  \centering\small",
                rf"  \caption{{{latex_text(self.heading)}. {latex_text(note)}}}",
                r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
                rf"  \begin{{tabular}}{{@{{}}{shape}@{{}}}}",
                r"    \toprule",
                rf"    {' & '.join(map(latex_text, self.columns))} \\",
                r"    \midrule",
                *rows,
                r"    \bottomrule",
                r"  \end{tabular}}",
                r"\end{table}",
            ]
        )
