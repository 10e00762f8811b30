"""One row per run: its numbers beside those of the unpruned run and of random pruning in the same group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmprune.report.runs import Run, read_scores
from vlmprune.report.statistics import Difference, holm, paired_difference, pareto_front

SAME_TOKENS = 0.5  # layer-averaged tokens apart at most, for "random at the same tokens"


@dataclass
class Row:
    """A run and what it is compared with.

    relative: score over the unpruned run's, measured here; None without that run. versus_random: against random
    pruning at the same layer-averaged tokens; p: its p value, Holm-corrected over the group. front: nothing shown
    scores as well for fewer FLOPs.
    """

    run: Run
    label: str
    relative: float | None = None
    versus_random: Difference | None = None
    p: float | None = None
    front: bool = False

    @property
    def speed_up(self) -> float | None:
        """Prefill of the unpruned model over this run's, both measured in this run, in turn."""
        if self.run.prefill_ms is None or self.run.unpruned_prefill_ms is None or self.run.unpruned:
            return None
        return self.run.unpruned_prefill_ms / self.run.prefill_ms

    def as_dict(self) -> dict[str, Any]:
        """Plain data, in the units of the names; fractions of 1, None where unknown."""
        run, versus = self.run, self.versus_random
        return {
            "method": run.method,
            "label": self.label,
            "ratio": run.ratio,
            "keep": run.keep,
            "tokens_total": run.total,
            "tokens_kept": run.kept,
            "tokens_layer_averaged": run.layer_averaged,
            "metric": run.metric,
            "score": run.score,
            "score_low": run.low,
            "score_high": run.high,
            "samples": run.samples,
            "relative_score": self.relative,
            "versus_random": versus.mean if versus else None,
            "versus_random_low": versus.low if versus else None,
            "versus_random_high": versus.high if versus else None,
            "p_corrected": self.p,
            "flops_per_question": run.flops,
            "flops_unpruned": run.unpruned_flops,
            "prefill_ms": run.prefill_ms,
            "prefill_speed_up": self.speed_up,
            "end_to_end_ms": run.end_to_end_ms,
            "pareto": self.front,
            "device": run.environment.get("device"),
            "dtype": run.environment.get("dtype"),
            "attention": run.environment.get("attention"),
            "path": str(run.path),
        }


def make_rows(shown: list[Run], group: list[Run]) -> list[Row]:
    """Rows for `shown`, compared with the unpruned and random runs of the whole `group` that they are part of."""
    unpruned = next((run for run in group if run.unpruned), None)
    labels = label_runs(group)
    rows = [Row(run, labels[run.path]) for run in shown]
    tested = []
    for row, front in zip(rows, _fronts(shown), strict=True):
        if row.run.score is None:
            continue
        row.front = front
        if unpruned is not None and unpruned.score is not None and unpruned.score > 0:
            row.relative = row.run.score / unpruned.score
        row.versus_random = _versus_random(row.run, group)
        if row.versus_random is not None:
            tested.append(row)
    for row, p in zip(tested, holm([row.versus_random.p for row in tested if row.versus_random]), strict=True):
        row.p = p
    return rows


def _fronts(runs: list[Run]) -> list[bool]:
    """Which runs are on the Pareto front of score and FLOPs; none without both."""
    points = {run.path: (run.flops, run.score) for run in runs if run.flops is not None and run.score is not None}
    front = dict(zip(points, pareto_front(list(points.values())), strict=True))
    return [front.get(run.path, False) for run in runs]


def _versus_random(run: Run, group: list[Run]) -> Difference | None:
    """Paired difference to random pruning at the same tokens; several seeds count as their mean per question.

    None where the score is no mean over the questions (F1, MME's sums): their difference would be another number's.
    """
    if run.unpruned or run.method == "random" or run.blind:
        return None
    randoms = [
        other
        for other in group
        if other.method == "random" and abs(other.layer_averaged - run.layer_averaged) <= SAME_TOKENS
    ]
    ours = read_scores(run)
    theirs = [scores for other in randoms if (scores := read_scores(other)) is not None]
    theirs = [scores for scores in theirs if ours is not None and scores.keys() == ours.keys()]
    if not ours or not theirs or not _is_mean(run, [score for score, _ in ours.values()]):
        return None
    ids = sorted(ours)
    baseline = [sum(scores[id_][0] for scores in theirs) / len(theirs) for id_ in ids]
    return paired_difference([ours[id_][0] for id_ in ids], baseline, [ours[id_][1] for id_ in ids])


def _is_mean(run: Run, scores: list[float]) -> bool:
    return run.score is not None and abs(sum(scores) / len(scores) - run.score) < 1e-9


def label_runs(runs: list[Run]) -> dict[Path, str]:
    """Directory -> the method's name, with the settings that tell it from other runs of that method."""
    settings = {run.path: method_settings(run) for run in runs}
    labels = {}
    for run in runs:
        same = [settings[other.path] for other in runs if other.method == run.method]
        differing = sorted({key for each in same for key in each if any(other.get(key) != each[key] for other in same)})
        own = [f"{key}={settings[run.path][key]}" for key in differing if key in settings[run.path]]
        labels[run.path] = " ".join([run.method, *own])
    return labels


def method_settings(run: Run) -> dict[str, Any]:
    """The method's own settings from config.yaml; {} where it cannot be read, the name then has to do."""
    import yaml

    try:
        method = yaml.safe_load((run.path / "config.yaml").read_text())["method"]
        return {key: value for key, value in method.items() if key not in ("_target_", "info")}
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return {}
