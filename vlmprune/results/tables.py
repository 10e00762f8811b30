"""The comparison on stdout: terminal table, markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlmprune.progress import say
from vlmprune.report.columns import DISPENSABLE, KEYS, columns_for, legend
from vlmprune.report.escapes import markdown_text, one_line
from vlmprune.report.fields import FIELDS, as_dict
from vlmprune.report.grid import Grid, left_out
from vlmprune.report.notes import beyond_notes, environment_notes, table_notes, title, what_differs
from vlmprune.report.runs import Run

if TYPE_CHECKING:
    from vlmprune.report.rows import Row

FORMATS = ("table", "markdown", "latex", "csv", "json")
PROSE = 110  # most characters in a line of the legend
LATEX_HEAD = r"% needs \usepackage{booktabs,graphicx}"
CAPTION = "[95 %]: bootstrap over images; p: sign flips over images, Holm-corrected by column; *: Pareto front"


@dataclass
class Comparison:
    """All tables. tables: rows of each group of comparable runs; others: (path, reason) of what is no finished run."""

    tables: list[list[Row]]
    others: list[tuple[Path, str]]

    @property
    def differences(self) -> list[str]:
        """Lines that say how the tables differ; [] for one table."""
        return what_differs([rows[0].run for rows in self.tables])

    @property
    def notes(self) -> list[str]:
        """A line for each directory that is not shown."""
        return [one_line(f"{path}: {why}") for path, why in self.others]


def show(comparison: Comparison, style: str, keys: Sequence[str] = KEYS) -> None:
    """Print the tables. style: one of FORMATS; keys: columns of a text table; CSV and JSON have all fields."""
    if style == "json":
        _json(comparison)
    elif style == "csv":
        _csv(comparison)
    elif style == "latex":
        _latex(comparison, keys)
    else:
        _text(comparison, keys, style == "markdown")


def grid(rows: list[Row], keys: Sequence[str]) -> Grid:
    """Return the table of one group."""
    columns = columns_for(rows, keys)
    titles = {column.key: column.title for column in columns}
    return Grid(
        title(rows[0].run),
        list(titles.values()),
        [[column.cell(row) for column in columns] for row in rows],
        {column.title for column in columns if not column.numeric},
        [row.front for row in rows],
        [titles[key] for key in DISPENSABLE if key in titles],
        {"method"},
    )


def _text(comparison: Comparison, keys: Sequence[str], markdown: bool) -> None:
    for line in comparison.differences:
        print(line)
    gone: set[str] = set()
    for rows in comparison.tables:
        if markdown:
            print(f"\n{grid(rows, keys).markdown()}")
        else:
            gone |= set(grid(rows, keys).print_terminal())
        for line in table_notes(rows):
            print(f"\n{line}" if markdown else line)
    columns = columns_for((row for rows in comparison.tables for row in rows), keys)
    about = legend(column for column in columns if column.title not in gone)
    print(f"\n{markdown_text(' · '.join(': '.join(pair) for pair in about)) if markdown else aligned(about)}")
    if gone:
        print(left_out(column.title for column in columns if column.title in gone))
    if comparison.notes:
        print("\nnot shown:\n" + "\n".join(f"- {note}" for note in comparison.notes))


def aligned(pairs: Sequence[tuple[str, str]]) -> str:
    """Return (name, meaning) pairs as text in two columns, with long lines wrapped."""
    line = min(PROSE, shutil.get_terminal_size((PROSE, 0)).columns)
    width = max((len(name) for name, _ in pairs), default=0) + 2
    return "\n".join(
        textwrap.fill(
            about, line, initial_indent=name.ljust(width), subsequent_indent=" " * width, break_on_hyphens=False
        )
        for name, about in pairs
    )


def _latex(comparison: Comparison, keys: Sequence[str]) -> None:
    print(f"{LATEX_HEAD}; columns=method,ratio,score,... chooses columns")
    for name, about in legend(columns_for((row for rows in comparison.tables for row in rows), keys)):
        print(f"% {name}: {about}")
    for rows in comparison.tables:
        notes = [
            CAPTION,
            *environment_notes([row.run for row in rows]),
            *beyond_notes(rows),
        ]  # without the notes on missing runs, which a paper does not need
        print(f"\n{grid(rows, keys).latex('; '.join(notes) + '.')}")
    for line in [*comparison.differences, *comparison.notes]:
        say(line)


def _json(comparison: Comparison) -> None:
    groups = [_group(rows[0].run) | {"runs": [as_dict(row) for row in rows]} for rows in comparison.tables]
    unfinished = [{"path": str(path), "reason": why} for path, why in comparison.others]
    report = {"groups": groups, "differ": comparison.differences, "unfinished": unfinished, "legend": FIELDS}
    print(json.dumps(report, indent=2, allow_nan=False))


def _csv(comparison: Comparison) -> None:
    records = []
    for rows in comparison.tables:
        run = rows[0].run
        common = {"model": run.model, "benchmark": run.benchmark}
        common |= {f"comparable_{name}": value for name, value in sorted(run.comparable.items())}
        records += [common | as_dict(row) for row in rows]
    fields = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.DictWriter(sys.stdout, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    for line in [*comparison.differences, *comparison.notes]:
        say(line)


def _group(run: Run) -> dict[str, object]:
    return {"model": run.model, "benchmark": run.benchmark, "comparable": run.comparable}
