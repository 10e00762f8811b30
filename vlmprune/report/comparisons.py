"""Runs against reference runs, question by question, corrected for looking at many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlmprune.report.paired import Difference, paired_differences
from vlmprune.report.questions import Questions
from vlmprune.report.runs import Run
from vlmprune.report.statistics import holm

SAME_TOKENS, SAME_SHARE = 0.5, 0.01  # tokens apart at most, or share of them, that count as equally many
FLIPS, MOST_FLIPS = 10_000, 50_000  # random signs of a test
FLIPS_PER_TEST = 1_000  # so that Holm's factor, the number of tests, leaves p values below 0.001 within reach


@dataclass(frozen=True)
class Compared:
    """The paired difference to a reference; p: its p value, Holm-corrected over all runs compared with it at once."""

    difference: Difference
    p: float


def unpruned_of(run: Run, group: list[Run]) -> list[Run]:
    """What a run is compared with in the first place: the unpruned one."""
    return [] if run.unpruned else [other for other in group if other.unpruned][:1]


def randoms_of(run: Run, group: list[Run]) -> list[Run]:
    """Random pruning at equal layer-averaged tokens, of every seed; none for a run that has nothing to beat.

    Where there are some with the run's own positions, scope and budget, only those.
    """
    if not has_to_beat_random(run):
        return []
    found = [other for other in group if other.method == "random" and equal(other.layer_averaged, run.layer_averaged)]
    same = [other for other in found if _engine(other) == _engine(run)]
    return same or found


def _engine(run: Run) -> list[Any]:
    """How tokens are dropped, whatever the method is: runs of one table may differ in that."""
    return [run.config.get(key) for key in ("positions", "scope", "budget")]


def has_to_beat_random(run: Run) -> bool:
    """Whether a run prunes by something else than chance."""
    return not (run.unpruned or run.method == "random" or run.blind)


def equal(tokens: float, others: float) -> bool:
    """Whether two numbers of tokens are the same but for rounding, which many tiles do one by one."""
    return abs(tokens - others) <= max(SAME_TOKENS, SAME_SHARE * others)


def compare_with(
    runs: list[Run],
    group: list[Run],
    references: Callable[[Run, list[Run]], list[Run]],
    questions: Callable[[Run], Questions | None] | None = None,
) -> list[Compared | None]:
    """Every run against the mean of its references, which are of `group`; several seeds count as one run.

    None without a reference of the same questions. questions: those of a run that count, else `averaged_questions`.
    """
    questions = questions or averaged_questions
    pairs: dict[int, tuple[Questions, np.ndarray]] = {}
    for index, run in enumerate(runs):
        ours = questions(run)
        if ours is None:
            continue
        theirs = [questions(other) for other in references(run, group)]
        scores = [each.scores for each in theirs if each is not None and each.ids == ours.ids]
        if scores:
            pairs[index] = ours, np.mean(scores, axis=0)
    # The same questions in almost every group; runs that left out broken samples stand apart.
    sets: dict[tuple[tuple[str, ...], tuple[str, ...]], list[int]] = {}
    for index, (ours, _) in pairs.items():
        sets.setdefault((ours.ids, ours.images), []).append(index)
    flips = min(MOST_FLIPS, max(FLIPS, FLIPS_PER_TEST * len(pairs)))
    found: dict[int, Difference] = {}
    for (_, images), indices in sets.items():
        scored, baselines = [pairs[i][0].scores for i in indices], [pairs[i][1] for i in indices]
        differences = paired_differences(scored, baselines, images, flips=flips)
        found |= dict(zip(indices, differences, strict=True))
    corrected = dict(zip(found, holm([difference.p for difference in found.values()]), strict=True))
    return [Compared(found[i], corrected[i]) if i in found else None for i in range(len(runs))]


def averaged_questions(run: Run) -> Questions | None:
    """All questions of a run whose score is their mean; None for another metric (F1, MME's sums), of which a difference
    question by question says nothing."""
    own = run.questions
    return own if own is not None and run.score is not None and abs(own.scores.mean() - run.score) < 1e-9 else None
