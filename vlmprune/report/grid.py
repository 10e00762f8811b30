"""Cells as a table in the terminal, in markdown, or in LaTeX, with all that they hold escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vlmprune.report.escapes import latex_text, markdown_text, one_line


@dataclass
class Grid:
    """A heading over cells. left: columns aligned left; bold: rows that stand out in a terminal; dispensable: columns
    that go first where it is too narrow."""

    heading: str
    columns: list[str]
    rows: list[list[str]]
    left: set[str] = field(default_factory=set)
    bold: list[bool] = field(default_factory=list)
    dispensable: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.heading = one_line(self.heading)
        self.rows = [[one_line(cell) for cell in row] for row in self.rows]

    def print_terminal(self) -> list[str]:
        """Print a table that fits the terminal, and return the columns that had to go for that."""
        from rich.console import Console
        from rich.markup import escape

        console = Console(highlight=False)
        # In a file or a pipe there is no screen to fit.
        room = console.width if console.is_terminal else 1000
        console.width = max(console.width, room)
        columns, gone = list(self.columns), []
        table, width = self._rich(console, columns)
        for name in self.dispensable:
            if width <= room:
                break
            if name in columns:
                columns.remove(name)
                gone.append(name)
                table, width = self._rich(console, columns)
        console.print(f"\n[bold]{escape(self.heading)}[/bold]\n", soft_wrap=True)
        console.print(table)
        return gone

    def _rich(self, console: Any, columns: Sequence[str]) -> tuple[Any, int]:
        """A rich table of these columns, and the width that it needs."""
        from rich.measure import Measurement
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
        for column in columns:
            table.add_column(column, justify="left" if column in self.left else "right", no_wrap=True)
        for number, row in enumerate(self.rows):
            shown = [Text(cell) for name, cell in zip(self.columns, row, strict=True) if name in columns]  # no markup
            table.add_row(*shown, style="bold" if self.bold and self.bold[number] else None)
        return table, Measurement.get(console, console.options.update(max_width=1000), table).maximum

    def markdown(self) -> str:
        """A table of GitHub's markdown under a heading."""
        lines = [f"### {self.heading}", "", f"| {' | '.join(self.columns)} |"]
        lines.append(f"|{'|'.join(' --- ' if column in self.left else ' ---: ' for column in self.columns)}|")
        lines += [f"| {' | '.join(markdown_text(cell) for cell in row)} |" for row in self.rows]
        return "\n".join(lines)

    def latex(self, note: str) -> str:
        r"""A table environment for booktabs and graphicx, shrunk where it is wider than the text; `note` goes into the
        caption after the heading."""
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
