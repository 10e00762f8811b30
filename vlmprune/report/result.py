"""From predictions to the answers part of result.json: deterministic, recomputable from the run directory alone."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from vlmprune.benchmarks.base import Benchmark
from vlmprune.evaluate import by_layer
from vlmprune.measure.encoder import Encoded, Uncountable
from vlmprune.measure.flops import question_flops
from vlmprune.methods.base import Method
from vlmprune.methods.none import Unpruned
from vlmprune.models.base import Adapter
from vlmprune.report.scores import summarise_scores


def summarise_answers(
    rows: list[dict[str, Any]], benchmark: Benchmark, adapter: Adapter, method: Method, clip: Any = None
) -> dict[str, Any]:
    """Score with its interval, metrics, scores by category, tokens and FLOPs per question, over prediction lines.

    clip: the config of the CLIP that a method reading text_relevance uses.
    """
    answers = summarise_scores(rows, benchmark) | {"tokens": _tokens(rows, adapter.decoder_depth)}
    try:
        return answers | {"flops": _flops(rows, adapter, method, clip)}
    except Uncountable as error:
        return answers | {"flops": None, "flops_unknown": str(error)}


def mean(values: list[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def _tokens(rows: list[dict[str, Any]], depth: int) -> dict[str, Any]:
    kept = [row["visual"][-1][1] for row in rows]
    averaged = [mean([float(n) for n in by_layer(row["visual"], depth)]) for row in rows]
    return {
        "total": mean([row["encoded"]["slots"] for row in rows]),
        "kept": {"mean": mean(kept), "min": min(kept), "max": max(kept)},
        "layer_averaged": mean(averaged),
        "sequence": mean([row["sequence"] for row in rows]),
    }


def _flops(rows: list[dict[str, Any]], adapter: Adapter, method: Method, clip: Any) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for row in rows:
        visual, encoded = by_layer(row["visual"], adapter.decoder_depth), Encoded.from_dict(row["encoded"])
        words, generated = row["sequence"] - visual[0], row["generated"]
        flops = question_flops(adapter, method, encoded, visual, words, generated, clip)
        bare = question_flops(adapter, Unpruned(), encoded, [encoded.slots] * len(visual), words, generated)
        for part, value in (flops.as_dict() | {"unpruned_total": bare.total}).items():
            total[part] += value / len(rows)
    return dict(total)
