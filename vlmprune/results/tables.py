"""Tables with what is said around them, printed in every format."""

from __future__ import annotations

import csv
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TextIO, TypeVar

from vlmprune.files import to_json
from vlmprune.results.text import latex_text, markdown_text, terminal_line

GAP = 2  # characters between columns
ROOM_TO_FOLD = 24  # smallest width of a folded column in characters, unless it says a smaller one
PROSE = 110  # most characters in a line of the legend
LATEX_HEAD = r"% needs \usepackage{booktabs,graphicx}"

Row = TypeVar("Row")


@dataclass(frozen=True, eq=False)
class Column(Generic[Row]):
    """A column of a table. text: the cell of a row; about: its meaning in the legend, '' for none.

    name: its name in the legend, if not the title. left: aligned left, and in a narrow terminal folded between words,
    to `fold` characters or its longest word. droppable: if it is still too narrow, columns are dropped in this order,
    from 1; 0 stays. joins: the title of another column: instead of being dropped, each cell goes there as 'title=cell'.
    value: what a row is sorted by, if not the text.
    """

    title: str
    text: Callable[[Row], str]
    about: str = ""
    name: str = ""
    left: bool = False
    droppable: int = 0
    value: Callable[[Row], float | None] | None = None
    fold: int = ROOM_TO_FOLD
    joins: str = ""


def column_legend(columns: Iterable[Column[Row]]) -> list[tuple[str, str]]:
    """Return (name, meaning) of every column that has a meaning, once for columns of one name."""
    return list({column.name or column.title: column.about for column in columns if column.about}.items())


IN_PIPES = "a pipe or a file gets all"


def dropped_columns_line(columns: Iterable[str], elsewhere: str = IN_PIPES) -> str:
    """Return the line that names the columns dropped for lack of width. elsewhere: says where to find them."""
    return f"left out for lack of width: {', '.join(columns)} ({elsewhere})"


@dataclass
class Table(Generic[Row]):
    """A table with a heading. bold: for each row, True to print it bold in a terminal.

    apart: in a terminal, an empty line where the first cell changes. notes: lines below; column_notes: further ones by
    the title of the column without which they say nothing; caption: LaTeX's, after the heading. In a terminal that is
    too narrow even without the droppable columns, every row is printed as lines of text. No cell is truncated.
    """

    heading: str
    columns: Sequence[Column[Row]]
    rows: Sequence[Row]
    bold: Sequence[bool] = ()
    apart: bool = False
    notes: Sequence[str] = ()
    column_notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    caption: str = ""

    def __post_init__(self) -> None:
        self.heading = terminal_line(self.heading)
        self.titles = [column.title for column in self.columns]
        self.cells = [[terminal_line(column.text(row)) for column in self.columns] for row in self.rows]

    def print_terminal(self) -> list[str]:
        """Print a table that fits the terminal; return the titles of columns that were dropped for lack of width."""
        from vlmprune.terminal import print_result, results_console, wrap_prose

        room = results_console().width
        columns = list(self.columns)
        widths = self._widths(columns, room)
        gone = []
        for column in sorted(self.columns, key=lambda column: column.droppable):
            if widths is None and column.droppable:
                columns.remove(column)
                if column.joins:
                    self._join(column)
                else:
                    gone.append(column.title)
                widths = self._widths(columns, room)
        if self.heading:
            print_result(f"\n{wrap_prose(self.heading, room)}\n", style="bold")
        if widths is not None:
            print_result(self._rich(widths))
            return gone
        for number, row in enumerate(self.cells):
            if self._begins_part(number):
                print_result()
            self._print_apart(row, room)
        return []

    def shown_notes(self, dropped: Collection[str] = ()) -> list[str]:
        """Return the lines below the table. dropped: titles of columns that it has, and does not show."""
        shown = [title for title in self.column_notes if title in self.titles and title not in dropped]
        return [*(line for title in shown for line in self.column_notes[title]), *self.notes]

    def _join(self, column: Column[Row]) -> None:
        """Move the cells of a column into the column that it joins."""
        own, other = self.columns.index(column), self.titles.index(column.joins)
        for row in self.cells:
            if row[own]:
                row[other] += f" {column.title}={row[own]}"
                row[own] = ""

    def _begins_part(self, number: int) -> bool:
        """Return True if an empty line goes before the row of this number."""
        return self.apart and number > 0 and self.cells[number][0] != self.cells[number - 1][0]

    def _widths(self, columns: Sequence[Column[Row]], room: int) -> dict[Column[Row], int] | None:
        """Return the width of each of `columns` in characters; None if they do not fit into `room`."""
        from rich.cells import cell_len

        cells = dict(zip(self.columns, zip(self.titles, *self.cells, strict=True), strict=True))
        natural = {column: max(map(cell_len, cells[column])) for column in columns}
        widths = dict(natural)
        for column in columns:
            if column.left:
                longest = max(cell_len(word) for cell in cells[column] for word in cell.split() or [""])
                widths[column] = min(natural[column], max(column.fold, min(longest, ROOM_TO_FOLD)))
        spare = room - sum(widths.values()) - GAP * (len(columns) - 1)
        if spare < 0:
            return None
        while spare and (folded := [column for column in columns if widths[column] < natural[column]]):
            widths[max(folded, key=lambda column: natural[column] / widths[column])] += 1  # the tallest cell
            spare -= 1
        return widths

    def _rich(self, widths: dict[Column[Row], int]) -> Any:
        """Return a rich table of the columns in `widths`."""
        import rich.table
        from rich.text import Text

        table = rich.table.Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
        for column, width in widths.items():
            justify: Any = "left" if column.left else "right"
            table.add_column(column.title, justify=justify, overflow="fold", width=width)
        for number, row in enumerate(self.cells):
            if self._begins_part(number):
                table.add_row()
            shown = [
                Text(cell) for column, cell in zip(self.columns, row, strict=True) if column in widths
            ]  # no markup
            table.add_row(*shown, style="bold" if self.bold and self.bold[number] else None)
        return table

    def _print_apart(self, row: list[str], room: int) -> None:
        """Print a row as lines of text: its name, then the other cells with the titles of their columns."""
        from vlmprune.terminal import print_result

        named = next(at for at, title in enumerate(self.titles) if title) + 1
        print_result(" ".join(filter(None, row[:named])), style="bold")
        titles: dict[str, list[str]] = {}  # cells with equal text are printed once
        for title, cell in zip(self.titles[named:], row[named:], strict=True):
            titles.setdefault(cell, []).append(title)
        said = [f"{', '.join(names)}: {cell}".removeprefix(": ") for cell, names in titles.items() if cell]
        for line in textwrap.wrap(" · ".join(said), max(20, room - 4), break_long_words=False, break_on_hyphens=False):
            print_result(f"    {line}")

    def markdown(self) -> str:
        """Return a table in GitHub's markdown under its heading."""
        lines = [f"### {self.heading}", "", f"| {' | '.join(self.titles)} |"]
        lines.append(f"|{'|'.join(' --- ' if column.left else ' ---: ' for column in self.columns)}|")
        lines += [f"| {' | '.join(map(markdown_text, row))} |" for row in self.cells]
        return "\n".join(lines)

    def latex(self) -> str:
        r"""Return a table environment for booktabs and graphicx, scaled down if it is wider than the text."""
        shape = "".join("l" if column.left else "r" for column in self.columns)
        rows = [rf"    {' & '.join(map(latex_text, row))} \\" for row in self.cells]
        return "\n".join(
            [
                r"\begin{table}",
                r"  \centering\small",
                r"  \setlength{\abovecaptionskip}{0pt}\setlength{\belowcaptionskip}{6pt}",  # the caption is above
                rf"  \caption{{{latex_text(self.heading)}. {latex_text(self.caption)}.}}",
                r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
                rf"  \begin{{tabular}}{{@{{}}{shape}@{{}}}}",
                r"    \toprule",
                rf"    {' & '.join(map(latex_text, self.titles))} \\",
                r"    \midrule",
                *rows,
                r"    \bottomrule",
                r"  \end{tabular}}",
                r"\end{table}",
            ]
        )


@dataclass
class Report:
    """Tables with what is said around them, and the same facts as data: records for CSV, data for JSON.

    In a terminal and in markdown stand, in this order: lines `above`, tables, remarks, the legend, which has (name,
    meaning) of columns and marks, and notes, in a list if they have a title. Beside CSV and LaTeX, `above` and `notes`
    are printed on stderr. latex_head: comments before LaTeX's tables; separator: between the meanings in markdown.
    """

    tables: Sequence[Table[Any]]
    legend: Sequence[tuple[str, str]]
    records: Sequence[dict[str, Any]]
    data: Any
    above: Sequence[str] = ()
    remarks: Sequence[str] = ()
    notes: Sequence[str] = ()
    notes_title: str = ""
    latex_head: Sequence[str] = (LATEX_HEAD,)
    separator: str = " · "

    def print(self, style: str) -> None:
        """Print it on stdout. style: one of FORMATS."""
        FORMATS[style](self)

    def _table(self) -> None:
        from vlmprune.terminal import print_prose

        for line in self.above:
            print_prose(line)
        gone: set[str] = set()
        for table in self.tables:
            dropped = table.print_terminal()
            gone |= set(dropped)
            for line in table.shown_notes(dropped):
                print_prose(line)
        for line in ["", *self.remarks] if self.remarks else []:
            print_prose(line)
        print(f"\n{align_pairs([(name, about) for name, about in self.legend if name not in gone])}")
        if gone:
            titles = [title for table in self.tables for title in table.titles if title in gone]
            print_prose(dropped_columns_line(dict.fromkeys(titles), "format=csv has everything"))
        self._print_notes()

    def _markdown(self) -> None:
        print_lines(self.above)
        for table in self.tables:
            print(f"\n{table.markdown()}")
            print_lines(f"\n{markdown_text(line)}" for line in table.shown_notes())
        print_lines(f"\n{markdown_text(line)}" for line in self.remarks)
        print(f"\n{self.separator.join(markdown_text(': '.join(pair)) for pair in self.legend)}")
        self._print_notes()

    def _print_notes(self) -> None:
        from vlmprune.terminal import print_prose

        if self.notes and self.notes_title:
            print(f"\n{self.notes_title}")
        for note in self.notes:
            if not self.notes_title:
                print()
            print_prose(f"- {note}" if self.notes_title else note)

    def _latex(self) -> None:
        print_lines(self.latex_head)
        print_lines(f"\n{table.latex()}" for table in self.tables)
        print_lines([*self.above, *self.remarks, *self.notes], sys.stderr)

    def _csv(self) -> None:
        fields = dict.fromkeys(name for record in self.records for name in record)
        writer = csv.DictWriter(sys.stdout, list(fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records)
        print_lines([*self.above, *self.notes], sys.stderr)

    def _json(self) -> None:
        print(to_json(self.data), end="")


FORMATS: dict[str, Callable[[Report], None]] = {
    "table": Report._table,
    "markdown": Report._markdown,
    "latex": Report._latex,
    "csv": Report._csv,
    "json": Report._json,
}


def print_lines(lines: Iterable[str], stream: TextIO | None = None) -> None:
    """Print each of `lines`, on stdout by default."""
    for line in lines:
        print(line, file=stream)


def align_pairs(pairs: Sequence[tuple[str, str]]) -> str:
    """Return (name, meaning) pairs as text in two columns, with long lines wrapped."""
    from vlmprune.terminal import results_console

    line = min(PROSE, results_console().width)
    width = max((len(name) for name, _ in pairs), default=0) + 2
    return "\n".join(
        textwrap.fill(
            about, line, initial_indent=name.ljust(width), subsequent_indent=" " * width, break_on_hyphens=False
        )
        for name, about in pairs
    )
