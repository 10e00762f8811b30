"""From predictions to the answers part of result.json: deterministic, recomputable from the run directory alone."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from vlmprune.evaluate import by_layer
from vlmprune.measure.flops import question_flops
from vlmprune.methods.base import Method
from vlmprune.methods.none import Unpruned
from vlmprune.models.base import Adapter
from vlmprune.report.statistics import clustered_interval


def summarise_answers(
    rows: list[dict[str, Any]], metric: str, config: Any, adapter: Adapter, method: Method
) -> dict[str, Any]:
    """Score with its interval, scores by category, tokens and FLOPs per question, over prediction lines."""
    scores = [row["score"] for row in rows]
    images = [row["image_id"] for row in rows]
    return {
        "metric": metric,
        "score": mean(scores),
        "interval95": list(clustered_interval(scores, images)),
        "samples": len(rows),
        "images": len(set(images)),
        "by_category": _by_category(rows),
        "tokens": _tokens(rows, adapter),
        "flops": _flops(rows, config, adapter, method),
    }


def mean(values: list[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def _by_category(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    scores = defaultdict(list)
    for row in rows:
        scores[row["category"]].append(row["score"])
    return {name: {"score": mean(values), "samples": len(values)} for name, values in sorted(scores.items())}


def _tokens(rows: list[dict[str, Any]], adapter: Adapter) -> dict[str, Any]:
    kept = [row["visual"][-1][1] for row in rows]
    averaged = [mean([float(n) for n in by_layer(row["visual"], adapter.decoder_depth)]) for row in rows]
    height, width = adapter.tower.grid
    return {
        "total": float(height * width),
        "kept": {"mean": mean(kept), "min": min(kept), "max": max(kept)},
        "layer_averaged": mean(averaged),
        "sequence": mean([row["sequence"] for row in rows]),
    }


def _flops(rows: list[dict[str, Any]], config: Any, adapter: Adapter, method: Method) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    n = adapter.tower.grid[0] * adapter.tower.grid[1]
    for row in rows:
        visual = by_layer(row["visual"], adapter.decoder_depth)
        words, generated = row["sequence"] - visual[0], row["generated"]
        flops = question_flops(config, adapter.tower, method, visual, words, generated)
        bare = question_flops(config, adapter.tower, Unpruned(), [n] * len(visual), words, generated)
        for part, value in (flops.as_dict() | {"unpruned_total": bare.total}).items():
            total[part] += value / len(rows)
    return dict(total)
