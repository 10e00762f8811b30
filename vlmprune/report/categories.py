"""Scores of runs by category of question, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlmprune.report.curves import Score
from vlmprune.report.questions import Questions
from vlmprune.report.runs import Run
from vlmprune.report.statistics import clustered_intervals


@dataclass(frozen=True)
class Category:
    """One category. questions: their number; scores: score and interval of every run, by directory."""

    name: str
    questions: int
    scores: dict[Path, Score]


def categories_of(runs: list[Run]) -> list[Category]:
    """Return the categories of the runs' benchmark, those with most questions first; [] for fewer than two.

    A category's score is the mean of its questions' scores, for any main metric; the interval is clustered by image.
    Runs without scores of single questions are left out.
    """
    sets: dict[tuple[tuple[str, ...], tuple[str, ...]], list[tuple[Path, Questions]]] = {}
    for run in runs:
        if run.questions is not None:
            sets.setdefault((run.questions.ids, run.questions.categories), []).append((run.path, run.questions))
    found: dict[str, tuple[int, dict[Path, Score]]] = {}
    for members in sets.values():
        first = members[0][1]
        names = np.array(first.categories)
        for name in sorted(set(first.categories) - {""}):
            at = np.flatnonzero(names == name)
            scores = np.array([questions.scores[at] for _, questions in members])
            bounds = clustered_intervals(scores, [first.images[i] for i in at])
            _, by_run = found.setdefault(name, (len(at), {}))
            for (path, _), own, (low, high) in zip(members, scores, bounds, strict=True):
                by_run[path] = float(own.mean()), float(low), float(high)
    ordered = sorted(found, key=lambda name: (-found[name][0], name))
    return [Category(name, *found[name]) for name in ordered] if len(ordered) > 1 else []
