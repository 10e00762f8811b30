"""Rows of the comparison: each run beside the unpruned run and random pruning, question by question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlmprune.results.find import distinct_settings, make_label
from vlmprune.results.question_scores import Questions
from vlmprune.results.runs import Run
from vlmprune.results.seeds import average_seeds
from vlmprune.results.statistics import Difference, holm, paired_differences, pareto_front
from vlmprune.results.timing import TimingDoubt, find_timing_doubt

SAME_TOKENS, SAME_SHARE = 0.5, 0.01  # largest differences that count as equal: in tokens, and as a share of them
FLIPS, MOST_FLIPS = 10_000, 50_000  # random sign assignments of a test
FLIPS_PER_TEST = 1_000  # p times Holm's factor, the number of tests, can then still be below 0.001


@dataclass(frozen=True)
class CorrectedDifference:
    """A paired difference to a reference. p: its p value, Holm-corrected over all runs compared with it at once."""

    difference: Difference
    p: float


def find_unpruned_reference(run: Run, group: list[Run]) -> list[Run]:
    """Return the unpruned run of the group as a list; [] if there is none or `run` is unpruned."""
    return [] if run.is_unpruned else [other for other in group if other.is_unpruned][:1]


def find_random_references(run: Run, group: list[Run]) -> list[Run]:
    """Return the random runs of all seeds at equal layer-averaged tokens; [] if `has_to_beat_random(run)` is False.

    If some of them have the same positions, scope and budget as `run`, return only those.
    """
    if not has_to_beat_random(run):
        return []
    found = [
        other
        for other in group
        if other.method == "random" and same_token_count(other.layer_averaged, run.layer_averaged)
    ]
    same = [other for other in found if _engine(other) == _engine(run)]
    return same or found


def _engine(run: Run) -> list[Any]:
    """Return the settings positions, scope and budget, in which runs of one table may differ."""
    return [run.config.get(key) for key in ("positions", "scope", "budget")]


def has_to_beat_random(run: Run) -> bool:
    """Return True for a run that prunes by another method than random and keeps some visual tokens."""
    return not (run.is_unpruned or run.method == "random" or run.is_blind)


def same_token_count(tokens: float, others: float) -> bool:
    """Return True if two token counts differ by rounding at most; each tile of an image is rounded separately."""
    return abs(tokens - others) <= max(SAME_TOKENS, SAME_SHARE * others)


def compare_with(
    runs: list[Run],
    group: list[Run],
    references: Callable[[Run, list[Run]], list[Run]],
    questions: Callable[[Run], Questions | None] | None = None,
) -> list[CorrectedDifference | None]:
    """Compare every run with the mean of its references in `group`, so that several seeds count as one run.

    Return None for a run without a reference that answers the same questions. references: (run, group) -> its
    references. questions: the questions of a run to compare; default `Run.averaged_questions`.
    """
    questions = questions or (lambda run: run.averaged_questions)
    pairs: dict[int, tuple[Questions, np.ndarray]] = {}
    for index, run in enumerate(runs):
        ours = questions(run)
        if ours is None:
            continue
        theirs = [questions(other) for other in references(run, group)]
        scores = [each.scores for each in theirs if each is not None and each.ids == ours.ids]
        if scores:
            pairs[index] = ours, np.mean(scores, axis=0)
    # Runs of a group have the same questions unless some left out broken samples.
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
    return [CorrectedDifference(found[i], corrected[i]) if i in found else None for i in range(len(runs))]


@dataclass
class Row:
    """A run, or the mean of several seeds, with its comparisons.

    settings: those that tell it from others of its method. relative: score over that of `unpruned`, the unpruned run,
    measured here; None without one. versus_unpruned, versus_random: paired differences to the unpruned run and to
    random pruning at the same layer-averaged tokens; None without such a run. front: on the Pareto front: nothing shown
    scores as well for fewer FLOPs, or better for as many. lacks_random: the run should be compared with random pruning,
    and there is no random run at its tokens. timing_doubt: reasons not to trust its prefill times, None if there is
    none.
    """

    run: Run
    settings: dict[str, str]
    relative: float | None = None
    versus_unpruned: CorrectedDifference | None = None
    versus_random: CorrectedDifference | None = None
    unpruned: Run | None = None
    front: bool = False
    lacks_random: bool = False
    timing_doubt: TimingDoubt | None = None

    @property
    def label(self) -> str:
        """The method with `settings`: 'fastv k=3'."""
        return make_label(self.run.method, self.settings)

    @property
    def name(self) -> str:
        """The label as printed: 'unpruned' for the unpruned run."""
        return "unpruned" if self.run.is_unpruned else self.label

    @property
    def unpruned_beyond_positions(self) -> bool:
        """True if the unpruned run has questions beyond the decoder's positions, so that `relative` is too high."""
        return self.unpruned is not None and bool(self.unpruned.beyond)

    @property
    def speed_up(self) -> float | None:
        """Prefill time of the unpruned model over this run's, both measured in turn in this run; None if unmeasured."""
        ours, unpruned = self.run.pruned_ms.get("prefill"), self.run.unpruned_ms.get("prefill")
        return unpruned / ours if ours and unpruned and not self.run.is_unpruned else None


def make_labelled_rows(shown: list[Run], group: list[Run]) -> list[Row]:
    """Return rows for `shown`, seeds of one setting as one, without comparisons, which charts do not need."""
    settings = distinct_settings(group)
    return [Row(run, settings[run.path]) for run in average_seeds(shown, group)]


def make_rows(shown: list[Run], group: list[Run]) -> list[Row]:
    """Return rows for `shown`, seeds of one setting as one, compared with the unpruned and random runs of their whole
    `group`."""
    rows = make_labelled_rows(shown, group)
    runs = [row.run for row in rows]
    unpruned = next((run for run in group if run.is_unpruned), None)
    columns = zip(
        rows,
        _fronts(runs),
        compare_with(runs, group, find_unpruned_reference),
        compare_with(runs, group, find_random_references),
        strict=True,
    )
    for row, front, versus_unpruned, versus_random in columns:
        row.front, row.versus_unpruned, row.versus_random = front, versus_unpruned, versus_random
        row.timing_doubt = find_timing_doubt(row.run, group)
        row.lacks_random = has_to_beat_random(row.run) and not find_random_references(row.run, group)
        if row.run.score is not None and unpruned is not None and unpruned.score is not None and unpruned.score > 0:
            row.relative = row.run.score / unpruned.score
            row.unpruned = unpruned
    return rows


def _fronts(runs: list[Run]) -> list[bool]:
    """Return for each run True if it is on the Pareto front of score and FLOPs; False if it lacks either."""
    points = {
        at: (run.flops, run.score) for at, run in enumerate(runs) if run.flops is not None and run.score is not None
    }
    front = dict(zip(points, pareto_front(list(points.values())), strict=True))
    return [front.get(at, False) for at in range(len(runs))]
