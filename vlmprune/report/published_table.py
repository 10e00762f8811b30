"""`vlmprune compare --published`: our figure, the published one, the difference; as a table, markdown, csv or json."""

from __future__ import annotations

import csv
import json
import sys
import textwrap
from typing import Any

from vlmprune.errors import UserError
from vlmprune.progress import results_console, say
from vlmprune.report.published import Published, read_published
from vlmprune.report.published_pairs import Pair, find_pairs
from vlmprune.report.runs import Run
from vlmprune.report.tables import title

COLUMNS = ("method", "ratio", "ours [95 %]", "published", "difference", "relative", "published rel.", "source", "notes")
NUMERIC = COLUMNS[1:7]
LEGEND = (
    "difference: ours minus published, * where the published figure is outside our 95 % interval over images · "
    "relative: of the unpruned run here; published rel.: of the unpruned row of the same table"
)


def show_published(shown: list[Run], runs: list[Run], style: str) -> None:
    """Print what was published of the same things as `shown`; relative scores look at all `runs`.

    Raises UserError where nothing was, which says what to run.
    """
    published = read_published()
    pairs, unlike = find_pairs(shown, runs, published)
    differing = [f"{path}: not compared, {settings}" for path, settings in unlike.items()]
    missing = _missing(shown, pairs, published)
    if not pairs:
        raise UserError(
            "; ".join([f"none of these runs ({len(shown)}) is of a published figure", *differing[:1], missing])
        )
    notes = [*differing, missing] if missing else differing
    if style == "json":
        print(json.dumps({"pairs": [as_dict(pair) for pair in pairs], "notes": notes}, indent=2, allow_nan=False))
    elif style == "csv":
        records = [as_dict(pair) for pair in pairs]
        writer = csv.DictWriter(sys.stdout, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        for note in notes:
            say(note)
    else:
        _tables(pairs, style == "markdown")
        print("\n".join(["", *notes]) if notes else "")


def as_dict(pair: Pair) -> dict[str, Any]:
    """Plain data: ours and published as printed there, relative scores as fractions, None where unknown."""
    run, line = pair.run, pair.published
    return {
        "model": run.model,
        "benchmark": run.benchmark,
        "method": run.method,
        "ratio": run.ratio,
        "keep": run.keep,
        "tokens_kept": run.kept,
        "metric": line.metric,
        "ours": pair.ours,
        "ours_low": pair.low,
        "ours_high": pair.high,
        "published": line.value,
        "difference": pair.difference,
        "relative": pair.relative,
        "published_relative": pair.published_relative,
        "source": line.source,
        "table": line.table,
        "published_method": line.method,
        "published_variant": line.variant,
        "published_tokens": line.tokens,
        "protocol": line.protocol,
        "caution": line.caution,
        "subset": run.comparable.get("subset", "all"),
        "path": str(run.path),
    }


def _missing(shown: list[Run], pairs: list[Pair], published: list[Published]) -> str:
    """How many figures of our choices have no run yet, and how to make the nearest of them; '' for none."""
    paired = {pair.published.key for pair in pairs}
    open_ones = [line for line in published if line.comparable and not line.caution and line.key not in paired]
    if not open_ones:
        return ""
    models, benchmarks = {run.model for run in shown}, {run.benchmark for run in shown}
    methods, ratios = {run.method for run in shown} - {"none"}, {run.ratio for run in shown} - {None}

    def nearness(line: Published) -> tuple[bool, ...]:
        wanted = (line.our_model in models, line.our_benchmark in benchmarks)
        return (*wanted, line.our_method in methods, line.ratio in ratios)

    return f"{len(open_ones)} published figures have no run here; the next: {max(open_ones, key=nearness).command}"


def _tables(pairs: list[Pair], markdown: bool) -> None:
    """One table per set of comparable runs and metric; what to know about a figure is numbered below."""
    groups: dict[tuple[str, ...], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((*pair.run.key, pair.published.metric), []).append(pair)
    numbers: dict[str, int] = {}
    for group in groups.values():
        rows = [_cells(pair, numbers) for pair in group]
        heading = title(group[0].run).replace(f" · {group[0].run.metric} · ", f" · {group[0].published.metric} · ")
        (_markdown if markdown else _rich)(heading, rows)
    below = [LEGEND, *(f"[{number}] {note}" for note, number in numbers.items())]
    for line in below:
        print(f"\n{line.replace('*', chr(92) + '*')}" if markdown else textwrap.fill(line, 110))


def _cells(pair: Pair, numbers: dict[str, int]) -> list[str]:
    """One row as text; notes that are new are added to `numbers`."""
    run, line = pair.run, pair.published
    notes = [f"CAUTION: {line.caution}"] if line.caution else []
    notes += [line.protocol] if line.protocol else []
    if run.comparable.get("subset", "all") != "all":
        notes.append(f"ours: {run.samples:,} questions alone ({run.comparable['subset']})")
    marks = [f"[{numbers.setdefault(note, len(numbers) + 1)}]" for note in notes]
    interval = "" if pair.low is None or pair.high is None else f" [{pair.low:.1f}, {pair.high:.1f}]"
    relative = [f"{100 * value:.1f} %" if value else "-" for value in (pair.relative, pair.published_relative)]
    name = "unpruned" if run.unpruned else "blind" if run.blind else f"{line.method} ({run.method})"
    return [
        f"{name} {line.variant}".strip(),
        run.amount,
        f"{pair.ours:.2f}{interval}",
        f"{line.value:g}",
        f"{pair.difference:+.2f}{'*' if pair.outside else ''}",
        *relative,
        line.place,
        "".join(marks),
    ]


def _rich(heading: str, rows: list[list[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    console = results_console()
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in COLUMNS:
        table.add_column(
            column, justify="right" if column in NUMERIC else "left", no_wrap=column != "source", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # [1] is no markup
    console.print(f"\n[bold]{heading}[/bold]\n", soft_wrap=True)
    console.print(table)
    console.print()


def _markdown(heading: str, rows: list[list[str]]) -> None:
    print(f"\n### {heading}\n")
    print(f"| {' | '.join(COLUMNS)} |")
    print(f"|{'|'.join(' ---: ' if column in NUMERIC else ' --- ' for column in COLUMNS)}|")
    for row in rows:
        print(f"| {' | '.join(cell.replace('*', chr(92) + '*') for cell in row)} |")
