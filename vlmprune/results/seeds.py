"""Runs of one setting with several seeds as one: their mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from statistics import fmean, median, stdev
from typing import Any

import numpy as np

from vlmprune.results.find import group_seeds
from vlmprune.results.question_scores import Questions
from vlmprune.results.runs import Run
from vlmprune.results.statistics import clustered_interval


@dataclass(frozen=True)
class SeedMean(Run):
    """The mean of runs that differ in the seed alone; in a table it is one run.

    score: the mean. low, high: the interval of the mean over images, of each question's mean score over the seeds;
    where the score is no mean over questions, the means of the seeds' ends. Times are medians over the seeds, of those
    parts that all of them measured; other figures are means, None if a seed lacks them; `longest` and `beyond` the
    largest. path, settings and environments are those of the first seed. runs: two or more, sorted by seed.
    """

    runs: tuple[Run, ...] = ()

    @property
    def seeds(self) -> tuple[Run, ...]:
        return self.runs

    @property
    def score_sd(self) -> float | None:
        scores = [run.score for run in self.runs if run.score is not None]
        return stdev(scores) if len(scores) == len(self.runs) else None

    @cached_property
    def _questions(self) -> Questions | None:
        """The questions with their mean scores over the seeds; None unless all seeds answered the same ones."""
        each = [run.questions for run in self.runs]
        known = [questions for questions in each if questions is not None]
        same = {(questions.ids, questions.images) for questions in known}
        if len(known) < len(each) or len(same) > 1:
            return None
        return replace(known[0], scores=np.mean([questions.scores for questions in known], axis=0))


def average_seeds(shown: Iterable[Run], group: list[Run]) -> list[Run]:
    """Return the runs `shown` of a table, with those that differ in the seed alone as one. group: all of its runs."""
    paths = {run.path for run in shown}
    groups = [[run for run in seeds if run.path in paths] for seeds in group_seeds(group)]
    return [seeds[0] if len(seeds) == 1 else mean_run(seeds) for seeds in groups if seeds]


def mean_run(runs: Sequence[Run]) -> SeedMean:
    """Return the mean of two or more runs that differ in the seed alone."""
    first = runs[0]
    figures: dict[str, Any] = {field.name: getattr(first, field.name) for field in fields(Run)}
    for name in (
        "score",
        "low",
        "high",
        "total",
        "kept",
        "layer_averaged",
        "flops",
        "unpruned_flops",
        "peak_memory_mb",
    ):
        figures[name] = _combine(runs, name, fmean)
    for name in ("longest", "beyond"):
        figures[name] = _combine(runs, name, max)
    cache = _combine(runs, "kv_cache_bytes", fmean)
    figures["kv_cache_bytes"] = None if cache is None else round(cache)
    for name in ("pruned_ms", "unpruned_ms", "pruned_p90_ms", "unpruned_p90_ms"):
        figures[name] = _combine_each(runs, name, median)
    figures["metrics"] = _combine_each(runs, "metrics", fmean)
    figures["finished"] = max(run.finished for run in runs)
    found = SeedMean(**figures, runs=tuple(runs))
    questions = found.averaged_questions
    if questions is None:
        return found
    low, high = clustered_interval(questions.scores.tolist(), questions.images)
    return replace(found, low=low, high=high)


def _combine(runs: Sequence[Run], name: str, combine: Callable[[list[float]], float]) -> float | None:
    values = [getattr(run, name) for run in runs]
    return None if None in values else combine(values)


def _combine_each(runs: Sequence[Run], name: str, combine: Callable[[list[float]], float]) -> dict[str, float]:
    """Combine the values of each entry that all runs have."""
    found: list[dict[str, float]] = [getattr(run, name) for run in runs]
    return {part: combine([each[part] for each in found]) for part in found[0] if all(part in each for each in found)}
