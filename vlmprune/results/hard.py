"""Questions that need the detail of the picture: right unpruned, and wrong from averaged patches at the same budget.

The filter of VTC-Bench (Liao et al., ACL 2026, arXiv:2510.07143): most questions of the usual benchmarks are answered
as well from a picture scaled down to the same number of tokens, and such questions do not separate pruning methods. Its
group A, right unpruned and wrong scaled down, is called *hard* here; group B, right with both, *easy*. Scaling down is
`method=pool`, averages over a grid, at the same budget. An answer is right if its score is 0.5 or more, as in its
tools/analyze_results.py (Chenfei-Liao/VTC-Bench 55936d4).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlmprune.report.commands import asked, command
from vlmprune.report.comparisons import Compared, compare_with, equal, randoms_of
from vlmprune.report.labels import label_runs
from vlmprune.report.questions import Questions
from vlmprune.report.runs import Run
from vlmprune.report.statistics import clustered_intervals

RIGHT = 0.5  # lowest score of a right answer
FILTER = "pool"


@dataclass(frozen=True)
class HardRow:
    """Mean scores of one run, fractions of 1. hard, low, high: score and interval on the hard questions; easy: score on
    the easy ones, None if there are none. versus_random: difference on the hard questions."""

    run: Run
    label: str
    hard: float
    low: float
    high: float
    easy: float | None
    versus_random: Compared | None


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
    unpruned = next((run for run in group if run.unpruned), None)
    candidates = [run for run in shown if not run.unpruned and not run.blind and run.method != FILTER]
    if unpruned is None:
        return [], [f"no unpruned run of {_name(group[0])}: {command(group[0].settings, 'none')}"]
    if reason := _unusable(unpruned):
        return [], [f"{_name(unpruned)}, unpruned: {reason}"]
    pools = [run for run in group if run.method == FILTER and _unusable(run) is None]
    labels = label_runs(group)
    budgets: dict[int, list[Run]] = {}
    without: dict[str, list[str]] = {}  # command that makes a missing pool run -> runs that need it
    notes = []
    for run in candidates:
        name = f"{labels[run.path]} {run.amount}"
        pool = filter_of(run, pools)
        if reason := _unusable(run):
            notes.append(f"{_name(run)}, {name}: {reason}")
        elif pool is None:
            wanted = asked(run) or f"ratio={run.reduction:.4g}"
            without.setdefault(command(run.settings, FILTER, wanted), []).append(name)
        else:
            budgets.setdefault(pools.index(pool), []).append(run)
    tables = [_table(unpruned, pools[index], budgets[index], labels, group) for index in sorted(budgets)]
    notes += [f"no pool run at the budget of {', '.join(names)}: {line}" for line, names in without.items()]
    return tables, notes


def filter_of(run: Run, pools: list[Run]) -> Run | None:
    """Return the pool run with the same requested ratio or keep=, else one with as many tokens in the last layer.

    The requested amount is compared first because a grid may have fewer tokens than it (29 of 24 x 24 gives 28).
    """
    same = [pool for pool in pools if asked(run) and asked(pool) == asked(run)]
    return next(iter(same or [pool for pool in pools if equal(pool.kept, run.kept)]), None)


def _table(unpruned: Run, pool: Run, runs: list[Run], labels: dict[Path, str], group: list[Run]) -> HardTable:
    bare, pooled = unpruned.questions, pool.questions
    assert bare is not None and pooled is not None
    position = {id_: at for at, id_ in enumerate(pooled.ids)}
    pooled_scores = np.array([pooled.scores[position[id_]] if id_ in position else np.nan for id_ in bare.ids])
    right = bare.scores >= RIGHT
    hard = {bare.ids[at] for at in np.flatnonzero(right & (pooled_scores < RIGHT))}
    easy = {bare.ids[at] for at in np.flatnonzero(right & (pooled_scores >= RIGHT))}
    rows = []
    versus = compare_with(runs, group, randoms_of, lambda run: _among(run, hard))
    for run, compared in zip(runs, versus, strict=True):
        ours, others = _among(run, hard), _among(run, easy)
        if ours is None:
            continue
        ((low, high),) = clustered_intervals(ours.scores, ours.images)
        mean_easy = None if others is None else float(others.scores.mean())
        score = float(ours.scores.mean())
        rows.append(HardRow(run, labels[run.path], score, float(low), float(high), mean_easy, compared))
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
