"""Pairs of runs and published figures with the same model, method, budget, benchmark and settings."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vlmprune.config import LIMITS
from vlmprune.registry import read
from vlmprune.report.folders import group_runs
from vlmprune.report.published import PRINTED, Published
from vlmprune.report.runs import Run

SAME_RATIO, SAME_TOKENS = 0.0005, 0.5  # largest differences that count as equal; the csv's ratios have four digits
# Settings that a matching run must leave at the values of its choice's YAML, unless the csv gives another value.
CHECKED = {
    "model": ("prompt", "image", "newline", "packing", "quantization", "random_weights", "generation", *LIMITS),
    "benchmark": ("split", "prefix", "suffix", "ocr", "num_frames"),
}
COUNTING = ("positions", "scope", "budget")  # must be "published" unless the csv gives another value


@dataclass(frozen=True)
class Pair:
    """A published figure and a run of ours on the published scale: percent, or MME's points.

    low, high: our 95 % interval, None if unknown. relative: score as a fraction of our unpruned run's;
    published_relative: as a fraction of the unpruned row's of the same table; None without that run or row.
    """

    published: Published
    run: Run
    ours: float
    low: float | None
    high: float | None
    relative: float | None
    published_relative: float | None

    @property
    def difference(self) -> float:
        """Our figure minus the published one."""
        return self.ours - self.published.value

    @property
    def outside(self) -> bool:
        """True if the published figure is outside our interval."""
        return self.low is not None and self.high is not None and not self.low <= self.published.value <= self.high


def find_pairs(shown: list[Run], runs: list[Run], published: list[Published]) -> tuple[list[Pair], dict[Path, str]]:
    """Return all pairs of a run in `shown` and a matching figure; unpruned runs are looked up in all `runs`.

    The second value has the runs without a pair that only settings keep from matching: directory -> those settings.
    """
    lines: dict[tuple[str, str, str], list[Published]] = defaultdict(list)
    for line in published:
        if line.comparable:
            lines[line.our_model, line.our_benchmark, "blind" if line.tokens == 0 else line.our_method].append(line)
    bare = {line.table_key: line.value for line in published if line.our_method == "none"}
    pairs: list[Pair] = []
    unlike: dict[Path, str] = {}
    for group in group_runs(runs):
        unpruned = next((run.metrics for run in group if run.unpruned), {})
        for run in (run for run in group if run in shown):
            metrics, config = run.metrics, run.config
            candidates = [
                (line, differing_settings(config, line))
                for line in lines[run.model, run.benchmark, "blind" if run.blind else run.method]
                if line.metric in metrics and _same_budget(run, line)
            ]
            found = [line for line, differing in candidates if not differing]
            pairs += [_pair(run, line, metrics, unpruned, bare.get(line.table_key)) for line in found]
            if candidates and not found:
                unlike[run.path] = min((differing for _, differing in candidates), key=lambda text: text.count("="))
    return pairs, unlike


def _pair(
    run: Run, line: Published, metrics: dict[str, float], unpruned: dict[str, float], published_unpruned: float | None
) -> Pair:
    ours = metrics[line.metric] * PRINTED[line.metric]
    # The interval is that of the main score, a fraction of its maximum.
    scale = ours / run.score if line.metric == run.metric and run.score else None
    return Pair(
        line,
        run,
        ours,
        None if scale is None or run.low is None else run.low * scale,
        None if scale is None or run.high is None else run.high * scale,
        metrics[line.metric] / unpruned[line.metric] if unpruned.get(line.metric) else None,
        line.value / published_unpruned if published_unpruned else None,
    )


def _same_budget(run: Run, line: Published) -> bool:
    """Return True if both have the same budget: by ratio if both have one, else by number of tokens."""
    if run.unpruned or run.blind:
        return True
    if run.ratio is None and run.keep is None and line.scheduled:
        return True  # the settings determine it, and they must agree
    if run.ratio is not None and line.ratio is not None:
        return abs(run.ratio - line.ratio) < SAME_RATIO
    reached = run.layer_averaged if line.settings.get("budget") == "average" else run.kept
    return line.tokens is not None and abs(reached - line.tokens) <= SAME_TOKENS


def differing_settings(config: dict[str, Any], line: Published) -> str:
    """Return the settings in which a run with this config.yaml differs from `line`; '' if there are none.

    A run that does not record a setting is older than the setting and counts as having the YAML's value.
    """
    wanted: dict[str, Any] = {key: "published" for key in COUNTING if key in config}
    for group, name in (("model", line.our_model), ("benchmark", line.our_benchmark), ("method", line.our_method)):
        choice, own = _choice(group, name), _group(config, group)
        wanted |= {f"{group}.{key}": choice.get(key) for key in CHECKED.get(group, tuple(choice)) if key in own}
    wanted |= line.settings
    pairs = {key: (_plain(_value(config, key)), _plain(value)) for key, value in wanted.items()}
    return ", ".join(f"{key}={own} (published: {other})" for key, (own, other) in pairs.items() if own != other)


@cache
def _choice(group: str, name: str) -> dict[str, Any]:
    return {key: value for key, value in read(group, name).items() if key not in ("_target_", "info", "name")}


def _value(config: dict[str, Any], key: str) -> Any:
    group, dot, name = key.partition(".")
    return _group(config, group).get(name) if dot else config.get(group)


def _group(config: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a group's part of config.yaml, an untrusted file; {} if that is no mapping."""
    group = config.get(name)
    return group if isinstance(group, dict) else {}


def _plain(value: Any) -> str:
    """Return a setting's value as one line of text, equal for a number from YAML and its text from the csv."""
    return " ".join((value if isinstance(value, str) else json.dumps(value)).split())
