"""The answers part of result.json, recomputable from the run directory alone, and FLOPs by another convention."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch

from vlmprune.benchmarks.base import Benchmark, Sample
from vlmprune.errors import UserError
from vlmprune.evaluation.plan import Plan
from vlmprune.evaluation.predictions import by_layer
from vlmprune.evaluation.scores import summarise_scores
from vlmprune.measure.flops import Flops, fastervlm_flops, question_flops
from vlmprune.measure.positions import summarise_positions
from vlmprune.methods.base import Method
from vlmprune.methods.baselines import Unpruned
from vlmprune.models.base import Adapter, EncoderInput, UncountableFlops, adapt
from vlmprune.models.checkpoint import random_model
from vlmprune.terminal import say


def summarise_answers(
    rows: list[dict[str, Any]],
    benchmark: Benchmark,
    adapter: Adapter,
    method: Method,
    clip: Any = None,
    convention: str = "vlmprune",
) -> dict[str, Any]:
    """Return score with interval, metrics, scores by category, and tokens, positions and FLOPs per question.

    rows: prediction lines; all other arguments as in `summarise_flops`.
    """
    answers = summarise_scores(rows, benchmark) | {"tokens": summarise_tokens(rows, adapter.decoder_depth)}
    answers["positions"] = summarise_positions(rows, adapter.config.text_config)
    return answers | summarise_flops(rows, adapter, method, clip, convention)


def summarise_flops(
    rows: list[dict[str, Any]], adapter: Adapter, method: Method, clip: Any, convention: str
) -> dict[str, Any]:
    """Return `flops`, the mean over prediction lines, or `flops`: None with `flops_unknown`, the reason.

    adapter: only its config and shapes are read, so that a model on the meta device suffices. clip: config of the CLIP
    model of a method that reads text_relevance. convention: flops.convention, whose formula is used.
    """
    try:
        return {"flops": {"convention": convention} | _flops(rows, adapter, method, clip, convention)}
    except UncountableFlops as error:
        return {"flops": None, "flops_unknown": str(error)}


def sort_rows(
    rows: list[dict[str, Any]], samples: list[Sample], told: str = "predictions.jsonl answers"
) -> list[dict[str, Any]]:
    """Return `rows` in the order of `samples`, so that sums and resamples do not depend on the order of answers.

    Raise UserError if a row is about no sample of the run. told: file and verb, for the message.
    """
    places = {sample.id: place for place, sample in enumerate(samples)}
    for row in rows:
        if row["id"] not in places:
            raise UserError(f"{told} {row['id']!r}, which is no question of this run: remove the line")
    return sorted(rows, key=lambda row: places[row["id"]])


def mean(values: list[float]) -> float:
    """Return the arithmetic mean."""
    return sum(values) / len(values)


def summarise_tokens(rows: list[dict[str, Any]], depth: int) -> dict[str, Any]:
    """Return visual tokens per question over prediction lines, for a model with `depth` decoder layers."""
    kept = [row["visual"][-1][1] for row in rows]
    averaged = [mean([float(n) for n in by_layer(row["visual"], depth)]) for row in rows]
    return {
        "total": mean([row["encoded"]["slots"] for row in rows]),
        "kept": {"mean": mean(kept), "min": min(kept), "max": max(kept)},
        "layer_averaged": mean(averaged),
        "sequence": mean([row["sequence"] for row in rows]),
    }


def _flops(
    rows: list[dict[str, Any]], adapter: Adapter, method: Method, clip: Any, convention: str
) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for row in rows:
        visual = by_layer(row["visual"], adapter.decoder_depth)
        unpruned = [row["encoded"]["slots"]] * len(visual)
        flops = _question_flops(row, adapter, method, visual, clip, convention)
        bare = _question_flops(row, adapter, Unpruned(), unpruned, clip, convention)
        for part, value in (flops.as_dict() | {"unpruned_total": bare.total}).items():
            total[part] += value / len(rows)
    return dict(total)


def _question_flops(
    row: dict[str, Any], adapter: Adapter, method: Method, visual: list[int], clip: Any, convention: str
) -> Flops:
    """Return the FLOPs of one prediction line if decoder layer i processes `visual[i]` visual tokens."""
    encoded = EncoderInput.from_dict(row["encoded"])
    if convention == "fastervlm":
        return fastervlm_flops(adapter, encoded, visual)
    words = row["sequence"] - row["visual"][0][1]
    return question_flops(adapter, method, encoded, visual, words, row["generated"], clip)


def recount_flops(plan: Plan, result: dict[str, Any]) -> dict[str, Any]:
    """Return `result`, of the finished run in the plan's directory, with FLOPs by flops.convention.

    If its convention is another, count the FLOPs again and rewrite result.json; a W&B run is not updated.
    """
    convention = plan.config.flops.convention
    if (result["answers"]["flops"] or {}).get("convention", "vlmprune") == convention:
        return result
    # Only shapes are read: no weights are needed, and the attention backend does not matter.
    model = random_model(plan.checkpoint.config, "sdpa", plan.dtype, torch.device("meta"))
    clip = None if plan.text_tower is None else plan.text_tower.config
    rows = sort_rows(plan.directory.predictions(), plan.samples)
    counted = summarise_flops(rows, adapt(model), plan.method, clip, convention)
    answers = {name: value for name, value in result["answers"].items() if name != "flops_unknown"} | counted
    comparable = {name: value for name, value in result["comparable"].items() if name != "flops"}
    if "flops" in plan.comparable:
        comparable["flops"] = plan.comparable["flops"]
    result = result | {"answers": answers, "comparable": comparable}
    plan.directory.finish(result)
    say(f"FLOPs counted again by flops.convention={convention}, from the recorded answers")
    return result
