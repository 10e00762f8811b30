"""`vlmprune compare --published` on stdout: our figures beside published ones, in every format of the comparison."""

from __future__ import annotations

import csv
import json
import sys
from typing import Any

from vlmprune.errors import UserError
from vlmprune.progress import say
from vlmprune.report.escapes import markdown_text, one_line
from vlmprune.report.grid import Grid, left_out
from vlmprune.report.notes import title
from vlmprune.report.published import Published, read_published
from vlmprune.report.published_pairs import Pair, find_pairs
from vlmprune.report.runs import Run
from vlmprune.report.tables import LATEX_HEAD, aligned

COLUMNS = ("method", "ratio", "ours [95 %]", "published", "difference", "relative", "published rel.", "source", "notes")
CAPTION = "*: the published figure is outside our 95 % interval over images; relative: of the own unpruned row"
LEFT = ("method", "source", "notes")
DISPENSABLE = ("relative", "published rel.", "source")  # dropped in this order if the terminal is too narrow
LEGEND = (
    ("difference", "ours minus published, * where the published figure is outside our 95 % interval over images"),
    ("relative", "ours of the unpruned run here"),
    ("published rel.", "theirs of the unpruned row of the same table"),
    ("caution", "a figure not to rely on, for the reason below"),
)


def show_published(shown: list[Run], runs: list[Run], style: str) -> None:
    """Print the published figures that match the runs `shown`; unpruned runs are looked up in all `runs`.

    Raise UserError, which says what to run, if there are none.
    """
    published = read_published()
    pairs, unlike = find_pairs(shown, runs, published)
    differing = [one_line(f"{path}: not compared, {settings}") for path, settings in unlike.items()]
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
        _tables(pairs, style)
        for note in notes:
            if style == "latex":
                say(note)
            else:
                print(f"\n{note}")


def as_dict(pair: Pair) -> dict[str, Any]:
    """Return a pair as plain data: figures on the published scale, relative scores as fractions, None if unknown."""
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
        "questions": run.samples,
        "published_questions": line.questions,
        "path": str(run.path),
    }


def _missing(shown: list[Run], pairs: list[Pair], published: list[Published]) -> str:
    """Return a line with the number of comparable figures without a run, and the command of the nearest, or ''."""
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


def _tables(pairs: list[Pair], style: str) -> None:
    """Print one table per group of comparable runs and metric, with numbered notes on its figures."""
    groups: dict[tuple[str, ...], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((*pair.run.key, pair.published.metric), []).append(pair)
    numbers: dict[str, int] = {}
    if style == "latex":
        print(LATEX_HEAD)
    for group in groups.values():
        heading = title(group[0].run).replace(f" · {group[0].run.metric} · ", f" · {group[0].published.metric} · ")
        rows = [_cells(pair, numbers) for pair in group]
        grid = Grid(heading, list(COLUMNS), rows, left=set(LEFT), fold=set(LEFT), dispensable=list(DISPENSABLE))
        if style == "latex":
            used = [
                f"[{number}] {note}" for note, number in numbers.items() if any(f"[{number}]" in r[-1] for r in rows)
            ]
            print(f"\n{grid.latex('; '.join([CAPTION, *used]) + '.')}")
        elif style == "markdown":
            print(f"\n{grid.markdown()}")
        elif gone := grid.print_terminal():
            print(left_out(gone))
    below = [*LEGEND, *((f"[{number}]", note) for note, number in numbers.items())]
    if style == "markdown":
        print("".join(f"\n{markdown_text(f'{name}: {about}')}\n" for name, about in below))
    elif style == "table":
        print(f"\n{aligned(below)}")


def _cells(pair: Pair, numbers: dict[str, int]) -> list[str]:
    """Return the cells of one row; add notes that are new to `numbers`."""
    run, line = pair.run, pair.published
    notes = [line.caution] if line.caution else []
    notes += [line.protocol] if line.protocol else []
    if run.beyond:
        notes.append(f"ours: {run.beyond:,} questions are longer than the decoder's {run.limit:,} positions")
    if run.comparable.get("subset", "all") != "all":
        notes.append(f"ours: {run.samples:,} questions alone ({run.comparable['subset']})")
    elif line.questions is not None and line.questions != run.samples:
        notes.append(f"published of {line.questions:,} questions, ours of {run.samples:,}: see docs/published.md")
    marks = ["caution " if line.caution else ""]
    marks += [f"[{numbers.setdefault(note, len(numbers) + 1)}]" for note in notes]
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
