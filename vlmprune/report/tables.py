"""The comparison as a terminal table, markdown, csv or json."""

from __future__ import annotations

import csv
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from vlmprune.progress import say
from vlmprune.report.rows import Row
from vlmprune.report.runs import Run

COLUMNS = (
    "",
    "method",
    "ratio",
    "kept",
    "layer avg",
    "score % [95 %]",
    "relative",
    "vs random (p)",
    "GFLOPs",
    "prefill ms",
    "end to end ms",
)
NUMERIC = COLUMNS[2:]
DISPENSABLE = ("end to end ms", "layer avg", "relative", "prefill ms", "vs random (p)")  # first to go first
LEGEND = (
    "* on the Pareto front of score and FLOPs · layer avg: visual tokens, mean over decoder layers · relative: of the "
    "unpruned run here · vs random: points above random pruning at the same layer-averaged tokens, p by a sign-flip "
    "permutation over images, Holm-corrected · GFLOPs: per question, 2 per multiply-add · ms: median at batch 1, "
    "speed-up over unpruned measured in the same run"
)


def show(tables: list[list[Row]], others: list[tuple[Path, str]], style: str) -> None:
    """Print tables, one per group of comparable runs, and a line for each directory that is no finished run."""
    notes = [f"{path}: {why}" for path, why in others]
    if style == "json":
        groups = [_group(rows[0].run) | {"runs": [row.as_dict() for row in rows]} for rows in tables]
        unfinished = [{"path": str(path), "reason": why} for path, why in others]
        print(json.dumps({"groups": groups, "unfinished": unfinished}, indent=2, allow_nan=False))
        return
    difference = what_differs([rows[0].run for rows in tables])
    if style == "csv":
        _csv(tables)
        for line in [*difference, *notes]:
            say(line)
        return
    for line in difference:
        print(line)
    for rows in tables:
        (_markdown if style == "markdown" else _rich)(rows)
        for line in environment_notes([row.run for row in rows]):
            print(f"\n{line}" if style == "markdown" else line)
    print("\n" + ("\\" + LEGEND if style == "markdown" else textwrap.fill(LEGEND, 110)))
    if notes:
        print("\nnot shown:\n" + "\n".join(f"- {note}" for note in notes))


def cells(row: Row) -> list[str]:
    """One row as text, a cell per column."""
    run = row.run
    prefill = _number(run.prefill_ms)
    if row.speed_up is not None:
        prefill += f" ({row.speed_up:.2f}x)"
    versus = "-"
    if row.versus_random is not None and row.p is not None:
        versus = f"{100 * row.versus_random.mean:+.1f} ({'<0.001' if row.p < 0.001 else f'{row.p:.3f}'})"
    return [
        "*" if row.front else "",
        "unpruned" if run.unpruned else row.label,
        run.amount,
        f"{run.kept:.4g}/{run.total:.4g}",
        f"{run.layer_averaged:.1f}",
        _score(run),
        "-" if row.relative is None else f"{100 * row.relative:.1f} %",
        versus,
        _number(None if run.flops is None else run.flops / 1e9),
        prefill,
        _number(run.end_to_end_ms),
    ]


def title(run: Run) -> str:
    """What the runs of a group have in common."""
    subset = run.comparable.get("subset", "all")
    questions = f"all {run.samples:,} questions" if subset == "all" else f"{run.samples:,} questions ({subset})"
    return f"{run.model} on {run.benchmark} · {run.metric} · {questions} · {run.comparable.get('dtype', '?')}"


def what_differs(firsts: list[Run]) -> list[str]:
    """Why there are several tables, from one run of each; [] for one table."""
    if len(firsts) < 2:
        return []
    lines = ["These runs cannot all be compared; each table holds runs that can. They differ in"]
    for name in ("benchmark", "model"):
        values = sorted({getattr(run, name) for run in firsts})
        if len(values) > 1:
            lines.append(f"  {name}: {', '.join(values)}")
    for pair in sorted({(run.model, run.benchmark) for run in firsts}):
        same = [run.comparable for run in firsts if (run.model, run.benchmark) == pair]
        for name in sorted({name for each in same for name in each}):
            values = sorted({str(each.get(name)) for each in same})
            if len(values) > 1:
                lines.append(f"  {name} ({pair[0]} on {pair[1]}): {' | '.join(values)}")
    return lines


def environment_notes(runs: list[Run]) -> list[str]:
    """Where the runs of one table were not made alike: answers compare, times may not."""
    lines = []
    for key in ("device", "device_name", "threads", "attention", "versions"):
        values = {json.dumps(run.environment.get(key), sort_keys=True) for run in runs}
        if len(values) > 1 and key == "versions":
            lines.append(f"note: library versions differ ({', '.join(_differing_versions(runs))})")
        elif len(values) > 1:
            lines.append(f"note: {key} differs ({', '.join(sorted(values))}): times do not compare")
    return lines


def _differing_versions(runs: list[Run]) -> list[str]:
    versions = [dict(run.environment.get("versions") or {}) for run in runs]
    packages = sorted({package for each in versions for package in each})
    return [package for package in packages if len({each.get(package) for each in versions}) > 1]


def _group(run: Run) -> dict[str, object]:
    return {"model": run.model, "benchmark": run.benchmark, "comparable": run.comparable}


def _rich(rows: list[Row]) -> None:
    """A table that fits the terminal: where it does not, the columns that matter least go, and that is said."""
    from rich.console import Console

    console = Console(highlight=False)
    # In a file or a pipe there is no screen to fit.
    room = console.width if console.is_terminal else 1000
    console.width = max(console.width, room)
    columns = list(COLUMNS)
    table, width = _table(console, rows, columns)
    for name in DISPENSABLE:
        if width <= room:
            break
        columns.remove(name)
        table, width = _table(console, rows, columns)
    console.print(f"\n[bold]{title(rows[0].run)}[/bold]\n", soft_wrap=True)
    console.print(table)
    left_out = [name for name in DISPENSABLE if name not in columns]
    if left_out:
        console.print(f"left out for lack of width: {', '.join(left_out)} (format=csv has everything)", soft_wrap=True)


def _table(console: Any, rows: list[Row], columns: list[str]) -> tuple[Any, int]:
    """A rich table of these columns, and the width that it needs."""
    from rich.measure import Measurement
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in NUMERIC else "left", no_wrap=True)
    for row in rows:
        shown = [cell for name, cell in zip(COLUMNS, cells(row), strict=True) if name in columns]
        table.add_row(*shown, style="bold" if row.front else None)
    return table, Measurement.get(console, console.options.update(max_width=1000), table).maximum


def _markdown(rows: list[Row]) -> None:
    print(f"\n### {title(rows[0].run)}\n")
    print(f"| {' | '.join(COLUMNS)} |")
    print(f"|{'|'.join(' ---: ' if column in NUMERIC else ' --- ' for column in COLUMNS)}|")
    for row in rows:
        print(f"| {' | '.join(cell.replace('*', chr(92) + '*') for cell in cells(row))} |")


def _csv(tables: list[list[Row]]) -> None:
    records = []
    for rows in tables:
        run = rows[0].run
        common = {"model": run.model, "benchmark": run.benchmark}
        common |= {f"comparable_{name}": value for name, value in sorted(run.comparable.items())}
        records += [common | row.as_dict() for row in rows]
    writer = csv.DictWriter(sys.stdout, list(records[0]), lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(records)


def _score(run: Run) -> str:
    if run.score is None:
        return "not judged"
    if run.low is None or run.high is None:
        return f"{100 * run.score:.1f}"
    return f"{100 * run.score:.1f} [{100 * run.low:.1f}, {100 * run.high:.1f}]"


def _number(value: float | None) -> str:
    """About three significant digits, '-' where there is none."""
    if value is None:
        return "-"
    decimals = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{decimals}f}"
