"""Rows of the comparison: each run's numbers beside those of the unpruned and random runs of its group."""

from __future__ import annotations

from dataclasses import dataclass

from vlmprune.report.comparisons import Compared, compare_with, has_to_beat_random, randoms_of, unpruned_of
from vlmprune.report.labels import label_runs
from vlmprune.report.runs import Run
from vlmprune.report.statistics import pareto_front


@dataclass
class Row:
    """A run with its comparisons.

    relative: score over that of `unpruned`, the unpruned run, measured here; None without one. versus_unpruned,
    versus_random: paired differences to the unpruned run and to random pruning at the same layer-averaged tokens; None
    without such a run. front: on the Pareto front: nothing shown scores as well for fewer FLOPs, or better for as many.
    lacks_random: the run should be compared with random pruning, and there is no random run at its tokens.
    """

    run: Run
    label: str
    relative: float | None = None
    versus_unpruned: Compared | None = None
    versus_random: Compared | None = None
    unpruned: Run | None = None
    front: bool = False
    lacks_random: bool = False

    @property
    def name(self) -> str:
        """The label as printed: 'unpruned' for the unpruned run."""
        return "unpruned" if self.run.unpruned else self.label

    @property
    def flattered(self) -> bool:
        """True if the unpruned run has questions beyond the decoder's positions, so that `relative` is too high."""
        return self.unpruned is not None and bool(self.unpruned.beyond)

    @property
    def speed_up(self) -> float | None:
        """Prefill time of the unpruned model over this run's, both measured in turn in this run; None if unmeasured."""
        ours, unpruned = self.run.pruned_ms.get("prefill"), self.run.unpruned_ms.get("prefill")
        return unpruned / ours if ours and unpruned and not self.run.unpruned else None


def labelled_rows(shown: list[Run], group: list[Run]) -> list[Row]:
    """Return rows for `shown` without comparisons, which charts do not need."""
    labels = label_runs(group)
    return [Row(run, labels[run.path]) for run in shown]


def make_rows(shown: list[Run], group: list[Run]) -> list[Row]:
    """Return rows for `shown`, compared with the unpruned and random runs of their whole `group`."""
    rows = labelled_rows(shown, group)
    unpruned = next((run for run in group if run.unpruned), None)
    columns = zip(
        rows,
        _fronts(shown),
        compare_with(shown, group, unpruned_of),
        compare_with(shown, group, randoms_of),
        strict=True,
    )
    for row, front, versus_unpruned, versus_random in columns:
        row.front, row.versus_unpruned, row.versus_random = front, versus_unpruned, versus_random
        row.lacks_random = has_to_beat_random(row.run) and not randoms_of(row.run, group)
        if row.run.score is not None and unpruned is not None and unpruned.score is not None and unpruned.score > 0:
            row.relative = row.run.score / unpruned.score
            row.unpruned = unpruned
    return rows


def _fronts(runs: list[Run]) -> list[bool]:
    """Return for each run True if it is on the Pareto front of score and FLOPs; False if it lacks either."""
    points = {run.path: (run.flops, run.score) for run in runs if run.flops is not None and run.score is not None}
    front = dict(zip(points, pareto_front(list(points.values())), strict=True))
    return [front.get(run.path, False) for run in runs]
