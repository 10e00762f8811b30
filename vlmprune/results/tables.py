"""The comparison on stdout (terminal table, markdown, LaTeX, csv or json) and the notes beside it."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprune.results.columns import BEYOND, DROPPABLE, FIELDS, KEYS, column_legend, columns_for, row_fields
from vlmprune.results.grid import Grid, dropped_columns_line, markdown_text, terminal_line
from vlmprune.results.runs import Run
from vlmprune.results.summary import CONVENTIONS, make_command, requested_amount
from vlmprune.source_code import ENGINE
from vlmprune.terminal import say

if TYPE_CHECKING:
    from vlmprune.results.comparison import Row


OPTIONAL_KEYS = (
    "pictures",
    "generation",
)  # keys of `comparable` that exist only for values other than the checkpoint's
HASHED_GROUPS = ("model", "benchmark")  # parts of config.yaml behind the hashes of `comparable`


def title(run: Run) -> str:
    """Return the title of a group: model, benchmark, metric, questions and dtype, which its runs share."""
    subset = run.comparable.get("subset", "all")
    questions = f"all {run.samples:,} questions" if subset == "all" else f"{run.samples:,} questions ({subset})"
    chosen = [run.comparable[name] for name in OPTIONAL_KEYS if name in run.comparable]
    if run.comparable["engine"] != str(ENGINE):
        chosen.append(f"engine {run.comparable['engine']}, today's is {ENGINE}")
    return " · ".join(
        [f"{run.model} on {run.benchmark}", run.metric, questions, run.comparable.get("dtype", "?"), *chosen]
    )


def difference_lines(firsts: list[Run]) -> list[str]:
    """Return lines that say how the tables differ, from the first run of each; [] for one table."""
    if len(firsts) < 2:
        return []
    lines = ["These runs cannot all be compared; each table holds runs that can. They differ in"]
    for name in ("benchmark", "model"):
        values = sorted({getattr(run, name) for run in firsts})
        if len(values) > 1:
            lines.append(f"  {name}: {', '.join(values)}")
    for model, benchmark in sorted({(run.model, run.benchmark) for run in firsts}):
        same = [run for run in firsts if (run.model, run.benchmark) == (model, benchmark)]
        differing = [
            *_differing([run.comparable for run in same]),
            # The settings behind differing hashes, of the runs whose config can be read.
            *_differing([settings for run in same if (settings := _settings(run))]),
        ]
        lines += [f"  {name} ({model} on {benchmark}): {values}" for name, values in differing]
    return lines


def table_notes(rows: list[Row]) -> list[str]:
    """Return the notes of one table: environments, long questions and missing reference runs."""
    notes = [*environment_notes([row.run for row in rows]), *beyond_notes(rows), *missing_references(rows)]
    return [terminal_line(line) for line in notes]


def missing_references(rows: list[Row]) -> list[str]:
    """Return a note for each kind of reference run that a table lacks, with the command that makes it."""
    lines = []
    if all(row.relative is None for row in rows) and not rows[0].run.is_unpruned:
        lines.append(f"note: no unpruned run to compare with: {make_command(rows[0].run.settings, 'none')}")
    lacking = [row for row in rows if row.lacks_random]
    if lacking:
        names = f"{lacking[0].name} {lacking[0].run.amount}" + (f" and {len(lacking) - 1} more" if lacking[1:] else "")
        made_by = " and ".join(random_commands([row.run for row in lacking]))
        lines.append(f"note: no random pruning at as many tokens as {names}: {made_by}")
    return lines


def random_commands(runs: list[Run]) -> list[str]:
    """Return the commands that run random pruning at the layer-averaged tokens of `runs`.

    They use the amounts of `runs` where these give as many tokens, else the ratio that does.
    """
    from vlmprune.results.comparison import (
        same_token_count,  # imports numpy, which a table without this note need not wait for
    )

    amounts: dict[str, list[str]] = {}
    for run in runs:
        given = run.total * (1 - run.ratio) if run.ratio is not None else run.keep
        as_given = given is not None and same_token_count(run.layer_averaged, given)
        key, _, value = requested_amount(run).partition("=")
        if not as_given:
            key, value = "ratio", f"{1 - run.layer_averaged / max(1, run.total):.4g}"
        amounts.setdefault(key, []).append(value)
    commands = []
    for key, values in amounts.items():
        different = ",".join(dict.fromkeys(values))
        verb, more = ("sweep", " baselines=false") if "," in different else ("run", "")
        commands.append(make_command(runs[0].settings, "random", f"{key}={different}{more}", verb))
    return commands


def environment_notes(runs: list[Run]) -> list[str]:
    """Return notes on differing environments, whose times may not be comparable, and on another FLOPs convention."""
    convention = runs[0].comparable.get("flops")  # one for all runs of a table
    lines = [f"note: FLOPs {CONVENTIONS.get(convention, f'by {convention}')}"] if convention else []
    for key in ("device", "device_name", "threads", "attention", "versions"):
        values = {json.dumps(run.environment.get(key), sort_keys=True) for run in runs}
        if len(values) > 1 and key == "versions":
            lines.append(f"note: library versions differ ({', '.join(_differing_versions(runs))})")
        elif len(values) > 1:
            lines.append(f"note: {key} differs ({', '.join(sorted(values))}): times do not compare")
    return lines


def beyond_notes(rows: list[Row]) -> list[str]:
    """Return a note that explains the mark BEYOND; [] if no run has questions beyond the decoder's positions."""
    runs = [run for row in rows for run in (row.run, row.unpruned) if run is not None]
    most = max(runs, key=lambda run: (run.beyond or 0, run.longest or 0))
    if not most.beyond:
        return []
    return [
        f"note: {BEYOND}: questions longer than the decoder's {most.limit:,} positions, up to {most.beyond:,} of "
        f"{most.samples:,} in a run ({most.longest:,} positions): it was not trained for them, and a score relative to "
        "such an unpruned run flatters pruning"
    ]


def _differing(records: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return (name, values) of each key whose values are not the same in all `records`."""
    pairs = []
    for name in sorted({name for each in records for name in each}):
        values = sorted(
            {"none" if each.get(name) is None else terminal_line(str(each[name])) or "''" for each in records}
        )
        if len(values) > 1:
            pairs.append((name, " | ".join(values)))
    return pairs


def _settings(run: Run) -> dict[str, Any]:
    """Return the settings of model and benchmark with dotted names, such as 'model.prompt'."""
    groups = {group: run.config.get(group) for group in HASHED_GROUPS}
    return {
        f"{group}.{name}": value
        for group, settings in groups.items()
        if isinstance(settings, dict)
        for name, value in settings.items()
        if name not in ("_target_", "info", "name")
    }


def _differing_versions(runs: list[Run]) -> list[str]:
    versions = [dict(run.environment.get("versions") or {}) for run in runs]
    packages = sorted({package for each in versions for package in each})
    return [package for package in packages if len({each.get(package) for each in versions}) > 1]


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
        return difference_lines([rows[0].run for rows in self.tables])

    @property
    def notes(self) -> list[str]:
        """A line for each directory that is not shown."""
        return [terminal_line(f"{path}: {why}") for path, why in self.others]


def print_comparison(comparison: Comparison, style: str, keys: Sequence[str] = KEYS) -> None:
    """Print the tables. style: as in format=; keys: columns of a text table; CSV and JSON have all fields."""
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
        [titles[key] for key in DROPPABLE if key in titles],
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
    about = column_legend(column for column in columns if column.title not in gone)
    print(f"\n{markdown_text(' · '.join(': '.join(pair) for pair in about)) if markdown else align_pairs(about)}")
    if gone:
        print(dropped_columns_line(column.title for column in columns if column.title in gone))
    if comparison.notes:
        print("\nnot shown:\n" + "\n".join(f"- {note}" for note in comparison.notes))


def align_pairs(pairs: Sequence[tuple[str, str]]) -> str:
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
    for name, about in column_legend(columns_for((row for rows in comparison.tables for row in rows), keys)):
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
    groups = [_group(rows[0].run) | {"runs": [row_fields(row) for row in rows]} for rows in comparison.tables]
    unfinished = [{"path": str(path), "reason": why} for path, why in comparison.others]
    report = {"groups": groups, "differ": comparison.differences, "unfinished": unfinished, "legend": FIELDS}
    print(json.dumps(report, indent=2, allow_nan=False))


def _csv(comparison: Comparison) -> None:
    records = []
    for rows in comparison.tables:
        run = rows[0].run
        common = {"model": run.model, "benchmark": run.benchmark}
        common |= {f"comparable_{name}": value for name, value in sorted(run.comparable.items())}
        records += [common | row_fields(row) for row in rows]
    fields = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.DictWriter(sys.stdout, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    for line in [*comparison.differences, *comparison.notes]:
        say(line)


def _group(run: Run) -> dict[str, object]:
    return {"model": run.model, "benchmark": run.benchmark, "comparable": run.comparable}
