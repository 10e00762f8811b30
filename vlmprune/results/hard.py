"""The hard questions of a benchmark, and the tables of `vlmprune compare --hard`.

The filter of VTC-Bench (Liao et al., ACL 2026, arXiv:2510.07143): most questions of the usual benchmarks are answered
as well from a picture scaled down to the same number of tokens, and such questions do not separate pruning methods. Its
group A, right unpruned and wrong scaled down, is called *hard* here; group B, right with both, *easy*. Scaling down is
`method=pool`, averages over a grid, at the same budget. An answer is right if its score is 0.5 or more, as in its
tools/analyze_results.py (Chenfei-Liao/VTC-Bench 55936d4).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import stdev
from typing import Any

import numpy as np

from vlmprune.errors import UserError
from vlmprune.results.comparison import CorrectedDifference, compare_with, find_random_references, same_token_count
from vlmprune.results.find import label_runs
from vlmprune.results.question_scores import Questions
from vlmprune.results.runs import Run
from vlmprune.results.seeds import average_seeds
from vlmprune.results.statistics import clustered_intervals
from vlmprune.results.summary import make_command, requested_amount
from vlmprune.results.tables import Column, Report, Table, column_legend
from vlmprune.results.text import format_difference, format_points, format_score, terminal_line

RIGHT = 0.5  # lowest score of a right answer
FILTER = "pool"


@dataclass(frozen=True)
class HardRow:
    """Mean scores of one run, or of several seeds, fractions of 1. hard, low, high: score and interval on the hard
    questions; sd: its standard deviation over the seeds, None for one; easy: score on the easy ones, None if there are
    none. versus_random: difference on the hard questions."""

    run: Run
    label: str
    hard: float
    low: float
    high: float
    sd: float | None
    easy: float | None
    versus_random: CorrectedDifference | None


@dataclass(frozen=True)
class HardTable:
    """The runs at one budget. pool: the run that filters; hard, easy: numbers of questions; images: those of the hard
    ones; rows: best first."""

    pool: Run
    hard: int
    images: int
    easy: int
    rows: list[HardRow]


def hard_tables(shown: list[Run], group: list[Run]) -> tuple[list[HardTable], list[str]]:
    """Return one table of the runs `shown` for each pool run of their `group` at one of their budgets, and lines on
    runs that are missing or unusable."""
    unpruned = next((run for run in group if run.is_unpruned), None)
    candidates = [run for run in shown if not run.is_unpruned and not run.is_blind and run.method != FILTER]
    candidates = average_seeds(candidates, group)
    if unpruned is None:
        return [], [f"no unpruned run of {_name(group[0])}: {make_command(group[0].settings, 'none')}"]
    if reason := _unusable(unpruned):
        return [], [f"{_name(unpruned)}, unpruned: {reason}"]
    pools = [run for run in group if run.method == FILTER and _unusable(run) is None]
    labels = label_runs(group)
    budgets: dict[int, list[Run]] = {}
    without: dict[str, list[str]] = {}  # command that makes a missing pool run -> runs that need it
    notes = []
    for run in candidates:
        name = f"{labels[run.path]} {run.amount}"
        pool = find_pool_run(run, pools)
        if reason := _unusable(run):
            notes.append(f"{_name(run)}, {name}: {reason}")
        elif pool is None:
            wanted = requested_amount(run) or f"ratio={run.reduction:.4g}"
            without.setdefault(make_command(run.settings, FILTER, wanted), []).append(name)
        else:
            budgets.setdefault(pools.index(pool), []).append(run)
    tables = [_table(unpruned, pools[index], budgets[index], labels, group) for index in sorted(budgets)]
    notes += [f"no pool run at the budget of {', '.join(names)}: {line}" for line, names in without.items()]
    return tables, notes


def find_pool_run(run: Run, pools: list[Run]) -> Run | None:
    """Return the pool run with the same requested ratio or keep=, else one with as many tokens in the last layer.

    The requested amount is compared first because a grid may have fewer tokens than it (29 of 24 x 24 gives 28).
    """
    same = [pool for pool in pools if requested_amount(run) and requested_amount(pool) == requested_amount(run)]
    return next(iter(same or [pool for pool in pools if same_token_count(pool.kept, run.kept)]), None)


def _table(unpruned: Run, pool: Run, runs: list[Run], labels: dict[Path, str], group: list[Run]) -> HardTable:
    bare, pooled = unpruned.questions, pool.questions
    assert bare is not None and pooled is not None
    position = {id_: at for at, id_ in enumerate(pooled.ids)}
    pooled_scores = np.array([pooled.scores[position[id_]] if id_ in position else np.nan for id_ in bare.ids])
    right = bare.scores >= RIGHT
    hard = {bare.ids[at] for at in np.flatnonzero(right & (pooled_scores < RIGHT))}
    easy = {bare.ids[at] for at in np.flatnonzero(right & (pooled_scores >= RIGHT))}
    rows = []
    versus = compare_with(runs, group, find_random_references, lambda run: _among(run, hard))
    for run, compared in zip(runs, versus, strict=True):
        ours, others = _among(run, hard), _among(run, easy)
        if ours is None:
            continue
        ((low, high),) = clustered_intervals(ours.scores, ours.images)
        mean_easy = None if others is None else float(others.scores.mean())
        score = float(ours.scores.mean())
        by_seed = [float(own.scores.mean()) for seed in run.seeds if (own := _among(seed, hard)) is not None]
        sd = stdev(by_seed) if len(by_seed) > 1 else None
        rows.append(HardRow(run, labels[run.path], score, float(low), float(high), sd, mean_easy, compared))
    rows.sort(key=lambda row: -row.hard)
    images = {image for id_, image in zip(bare.ids, bare.images, strict=True) if id_ in hard}
    return HardTable(pool, len(hard), len(images), len(easy), rows)


def _among(run: Run, ids: set[str]) -> Questions | None:
    """Return the run's questions whose ids are in `ids`; None if there are none."""
    own = run.questions
    positions = [] if own is None else [at for at, id_ in enumerate(own.ids) if id_ in ids]
    return own.at(np.array(positions)) if own is not None and positions else None


def _unusable(run: Run) -> str | None:
    """Return the reason why a run's answers cannot be called right or wrong; None if they can."""
    if run.score is None:
        return "not judged, so that no answer is right or wrong; vlmprune score judges it"
    if run.questions is None:
        return "no scores of single questions: predictions.jsonl is gone or damaged, or the metric scores the whole set"
    low, high = run.questions.scores.min(), run.questions.scores.max()
    if low < 0 or high > 1:
        return f"scores of its questions run from {low:g} to {high:g}, not from 0 to 1: none is right or wrong"
    return None


def _name(run: Run) -> str:
    return f"{run.model} on {run.benchmark}"


COLUMNS: tuple[Column[HardRow], ...] = (
    Column("method", lambda row: row.label, left=True),
    Column("ratio", lambda row: row.run.amount),
    Column("kept", lambda row: row.run.kept_text),
    Column("layer avg", lambda row: f"{row.run.layer_averaged:.1f}", droppable=1),
    Column(
        "hard % [95 %]",
        lambda row: format_score(row.hard, row.low, row.high, row.sd),
        "mean score of the questions that are right unpruned (a score of 0.5 or more) and wrong for pool at the same "
        "budget, the filter of VTC-Bench (arXiv:2510.07143); interval: bootstrap over images; "
        "± is the standard deviation over seeds",
        name="hard %",
    ),
    Column(
        "vs random (p)",
        lambda row: format_difference(row.versus_random),
        "points above random pruning at equal layer-averaged tokens on these questions; p by sign flips over images, "
        "Holm-corrected over the table",
    ),
    Column(
        "easy %",
        lambda row: format_points(row.easy),
        "mean score of the questions that are right unpruned and for pool",
    ),
    Column("all %", lambda row: format_points(row.run.score), "score of the whole set", droppable=2),
)
CAPTION = "hard: right unpruned and wrong for pool at the same budget; easy: right for both"
FEW = 30  # a note warns of fewer hard questions than this


def show_hard(pairs: list[tuple[list[Run], list[Run]]], style: str) -> None:
    """Print a table for every budget. pairs: (runs to show, their whole group). Raise UserError if there is none."""
    tables: list[HardTable] = []
    missing: list[str] = []
    for shown, group in pairs:
        found, lines = hard_tables(shown, group)
        tables += found
        missing += map(terminal_line, lines)
    if not tables:
        raise UserError("; ".join(["no hard questions can be told", *missing[:2]]))
    legend = column_legend(COLUMNS)
    notes = [*(few_note(table) for table in tables if table.hard < FEW), *missing]
    Report(
        [Table(heading(table), COLUMNS, table.rows, caption=CAPTION) for table in tables if table.rows],
        legend,
        records=[_summary(table) | record for table in tables for record in _records(table)],
        data={
            "tables": [_summary(table) | {"runs": _records(table)} for table in tables],
            "legend": dict(legend),
            "notes": missing,
        },
        notes=notes,
        notes_title="note:",
    ).print(style)


def few_note(table: HardTable) -> str:
    """Return a note on the few hard questions of a table."""
    if table.hard:
        return f"{table.pool.amount}: {table.hard} hard questions are too few to tell methods apart"
    return f"{table.pool.amount}: no question is hard, pool answers all that the unpruned model does"


def heading(table: HardTable) -> str:
    """Return the heading of a table: model, benchmark, budget, and numbers of questions."""
    pool = table.pool
    return (
        f"{pool.model} on {pool.benchmark} · {pool.amount} · {table.hard:,} of {pool.samples:,} questions are hard "
        f"({table.images:,} images), {table.easy:,} easy · pool keeps {pool.kept:.4g} of {pool.total:.4g} tokens"
    )


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
            "hard_sd": row.sd,
            "seeds": len(row.run.seeds),
            "easy_score": row.easy,
            "score": row.run.score,
            "versus_random": None if row.versus_random is None else row.versus_random.difference.mean,
            "versus_random_p": None if row.versus_random is None else row.versus_random.p,
            "path": str(row.run.path),
        }
        for row in table.rows
    ]
