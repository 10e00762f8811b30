"""From predictions to the answers part of result.json: deterministic, recomputable from the run directory alone."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from vlmprune.benchmarks.base import Benchmark
from vlmprune.evaluate import by_layer
from vlmprune.measure.flops import question_flops
from vlmprune.methods.base import Method
from vlmprune.methods.none import Unpruned
from vlmprune.models.base import Adapter
from vlmprune.report.scores import summarise_scores


def summarise_answers(
    rows: list[dict[str, Any]], benchmark: Benchmark, config: Any, adapter: Adapter, method: Method
) -> dict[str, Any]:
    """Score with its interval, metrics, scores by category, tokens and FLOPs per question, over prediction lines."""
    return summarise_scores(rows, benchmark) | {
        "tokens": _tokens(rows, adapter),
        "flops": _flops(rows, config, adapter, method),
    }


def mean(values: list[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def _tokens(rows: list[dict[str, Any]], adapter: Adapter) -> dict[str, Any]:
    kept = [row["visual"][-1][1] for row in rows]
    averaged = [mean([float(n) for n in by_layer(row["visual"], adapter.decoder_depth)]) for row in rows]
    height, width = adapter.tower.grid
    return {
        "total": height * width * mean([row["images"] for row in rows]),
        "kept": {"mean": mean(kept), "min": min(kept), "max": max(kept)},
        "layer_averaged": mean(averaged),
        "sequence": mean([row["sequence"] for row in rows]),
    }


def _flops(rows: list[dict[str, Any]], config: Any, adapter: Adapter, method: Method) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    n = adapter.tower.grid[0] * adapter.tower.grid[1]
    for row in rows:
        visual = by_layer(row["visual"], adapter.decoder_depth)
        words, generated, images = row["sequence"] - visual[0], row["generated"], row["images"]
        flops = question_flops(config, adapter.tower, method, visual, words, generated, images)
        everything = [images * n] * len(visual)
        bare = question_flops(config, adapter.tower, Unpruned(), everything, words, generated, images)
        for part, value in (flops.as_dict() | {"unpruned_total": bare.total}).items():
            total[part] += value / len(rows)
    return dict(total)
