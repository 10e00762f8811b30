"""`vlmprune compare --hard` on stdout, in every format of the comparison."""

from __future__ import annotations

import csv
import json
import sys
from typing import Any

from vlmprune.errors import UserError
from vlmprune.progress import say
from vlmprune.report.columns import compared_text
from vlmprune.report.escapes import markdown_text, one_line
from vlmprune.report.grid import Grid, left_out
from vlmprune.report.hard import HardTable, hard_tables
from vlmprune.report.runs import Run
from vlmprune.report.tables import LATEX_HEAD, aligned

COLUMNS = ["method", "ratio", "kept", "layer avg", "hard % [95 %]", "vs random (p)", "easy %", "all %"]
ABOUT = {
    "hard %": "mean score of the questions that are right unpruned (a score of 0.5 or more) and wrong for pool at the "
    "same budget, the filter of VTC-Bench (arXiv:2510.07143); interval: bootstrap over images",
    "vs random (p)": "points above random pruning at equal layer-averaged tokens on these questions; p by sign flips "
    "over images, Holm-corrected over the table",
    "easy %": "mean score of the questions that are right unpruned and for pool",
    "all %": "score of the whole set",
}
CAPTION = "hard: right unpruned and wrong for pool at the same budget; easy: right for both"
FEW = 30  # a note warns of fewer hard questions than this


def show_hard(pairs: list[tuple[list[Run], list[Run]]], style: str) -> None:
    """Print a table for every budget. pairs: (runs to show, their whole group). Raise UserError if there is none."""
    tables: list[HardTable] = []
    notes: list[str] = []
    for shown, group in pairs:
        found, missing = hard_tables(shown, group)
        tables += found
        notes += map(one_line, missing)
    if not tables:
        raise UserError("; ".join(["no hard questions can be told", *notes[:2]]))
    if style == "json":
        records = [_summary(table) | {"runs": _records(table)} for table in tables]
        print(json.dumps({"tables": records, "legend": ABOUT, "notes": notes}, indent=2, allow_nan=False))
    elif style == "csv":
        rows = [_summary(table) | record for table in tables for record in _records(table)]
        fields = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(sys.stdout, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        for note in notes:
            say(note)
    else:
        _text(tables, notes, style)


def _text(tables: list[HardTable], notes: list[str], style: str) -> None:
    if style == "latex":
        print(LATEX_HEAD)
    for table in tables:
        if not table.rows:
            continue
        grid = _grid(table)
        if style == "latex":
            print(f"\n{grid.latex(CAPTION + '.')}")
        elif style == "markdown":
            print(f"\n{grid.markdown()}")
        elif gone := grid.print_terminal():
            print(left_out(gone))
    few = [
        f"{table.pool.amount}: {table.hard} hard questions tell little apart"
        if table.hard
        else f"{table.pool.amount}: no question is hard, pool answers all that the unpruned model does"
        for table in tables
        if table.hard < FEW
    ]
    notes = [*few, *notes]
    if style == "latex":
        for note in notes:
            say(note)
        return
    about = " · ".join(f"{name}: {meaning}" for name, meaning in ABOUT.items())
    print(f"\n{markdown_text(about) if style == 'markdown' else aligned(list(ABOUT.items()))}")
    if notes:
        print("\nnote:\n" + "\n".join(f"- {note}" for note in notes))


def _grid(table: HardTable) -> Grid:
    pool = table.pool
    heading = (
        f"{pool.model} on {pool.benchmark} · {pool.amount} · {table.hard:,} of {pool.samples:,} questions are hard "
        f"({table.images:,} images), {table.easy:,} easy · pool keeps {pool.kept:.4g} of {pool.total:.4g} tokens"
    )
    rows = [
        [
            row.label,
            row.run.amount,
            f"{row.run.kept:.4g}/{row.run.total:.4g}",
            f"{row.run.layer_averaged:.1f}",
            f"{100 * row.hard:.1f} [{100 * row.low:.1f}, {100 * row.high:.1f}]",
            compared_text(row.versus_random),
            "-" if row.easy is None else f"{100 * row.easy:.1f}",
            "-" if row.run.score is None else f"{100 * row.run.score:.1f}",
        ]
        for row in table.rows
    ]
    return Grid(heading, COLUMNS, rows, left={"method"}, dispensable=["layer avg", "all %"], fold={"method"})


def _summary(table: HardTable) -> dict[str, Any]:
    pool = table.pool
    return {
        "model": pool.model,
        "benchmark": pool.benchmark,
        "samples": pool.samples,
        "hard_samples": table.hard,
        "hard_images": table.images,
        "easy_samples": table.easy,
        "pool_tokens_kept": pool.kept,
        "pool_path": str(pool.path),
    }


def _records(table: HardTable) -> list[dict[str, Any]]:
    return [
        {
            "method": row.run.method,
            "label": row.label,
            "ratio": row.run.ratio,
            "keep": row.run.keep,
            "tokens_kept": row.run.kept,
            "tokens_layer_averaged": row.run.layer_averaged,
            "hard_score": row.hard,
            "hard_low": row.low,
            "hard_high": row.high,
            "easy_score": row.easy,
            "score": row.run.score,
            "versus_random": None if row.versus_random is None else row.versus_random.difference.mean,
            "versus_random_p": None if row.versus_random is None else row.versus_random.p,
            "path": str(row.run.path),
        }
        for row in table.rows
    ]
