"""Which runs of ours are of the same thing as a published figure: model, method, budget, benchmark and settings."""

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

SAME_RATIO, SAME_TOKENS = 0.0005, 0.5  # apart at most; the csv's ratios have four digits
# What a run of the same thing leaves as its choice's YAML has it, unless the csv names another value.
CHECKED = {
    "model": ("prompt", "image", "newline", "packing", "quantization", "random_weights", "generation", *LIMITS),
    "benchmark": ("split", "prefix", "suffix", "ocr", "num_frames"),
}
COUNTING = ("positions", "scope", "budget")  # settings of the run that are "published" unless the csv says otherwise


@dataclass(frozen=True)
class Pair:
    """A published figure and a run of ours, both as printed there: percent, or MME's points.

    low, high: our 95 % interval, None where there is none. relative: of our unpruned run; published_relative: of the
    unpruned row of the same table. Both are fractions, None without those.
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
        """Ours minus the published figure."""
        return self.ours - self.published.value

    @property
    def outside(self) -> bool:
        """Whether the published figure lies outside our interval."""
        return self.low is not None and self.high is not None and not self.low <= self.published.value <= self.high


def find_pairs(shown: list[Run], runs: list[Run], published: list[Published]) -> tuple[list[Pair], dict[Path, str]]:
    """Pairs of a run among `shown` and a figure of the same thing; relative scores look at all `runs`.

    Second: of runs without a pair that settings alone keep from one, directory -> those settings.
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
    # An interval is that of the main score, a fraction of its maximum.
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
    """Whether both keep as many tokens: by the ratio asked for, else by the count that it came to."""
    if run.unpruned or run.blind:
        return True
    if run.ratio is None and run.keep is None and line.scheduled:
        return True  # the settings, which have to agree, say how many
    if run.ratio is not None and line.ratio is not None:
        return abs(run.ratio - line.ratio) < SAME_RATIO
    reached = run.layer_averaged if line.settings.get("budget") == "average" else run.kept
    return line.tokens is not None and abs(reached - line.tokens) <= SAME_TOKENS


def differing_settings(config: dict[str, Any], line: Published) -> str:
    """'' where a run with this config.yaml is of the same thing as `line`, else the settings in which it is not.

    A setting that the run does not record is older than the setting, and counts as it is in the YAML.
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
    """A group's part of config.yaml; {} where the file, which anyone may have written, has something else there."""
    group = config.get(name)
    return group if isinstance(group, dict) else {}


def _plain(value: Any) -> str:
    """One spelling of a setting, in one line: a number from YAML and its text from the csv are the same."""
    return " ".join((value if isinstance(value, str) else json.dumps(value)).split())
