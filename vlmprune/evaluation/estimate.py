"""Estimate of a question's tokens and FLOPs before a run, without weights and without a forward pass.

The model is built on torch's meta device, which holds shapes only; its own preprocessor turns the benchmark's first
questions into inputs, and the method gives the number of tokens that it keeps of those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from vlmprune.benchmarks.base import BadSample
from vlmprune.config.settings import RunConfig
from vlmprune.errors import UserError
from vlmprune.evaluation.media_loader import media_of
from vlmprune.evaluation.plan import Plan, Resources, choose_parts, load_benchmark
from vlmprune.evaluation.predictions import run_lengths
from vlmprune.evaluation.result import summarise_flops, summarise_tokens
from vlmprune.hashing import data_hash
from vlmprune.measure.stage_costs import visual_by_layer
from vlmprune.methods.base import Method
from vlmprune.models.base import EncoderInput
from vlmprune.models.outline import WeightlessModel, build_weightless

QUESTIONS = 4


class NoUsableSample(UserError):
    """Every sample of a run is broken."""


@dataclass(frozen=True)
class CostEstimate:
    """Means over the first `QUESTIONS` questions.

    total, kept, layer_averaged: visual tokens. flops, unpruned_flops: up to the first answer token (how many follow is
    not known); None where they cannot be counted. at_most: True if the number of kept tokens depends on the image, so
    that tokens and FLOPs are upper bounds.
    """

    total: float
    kept: float
    layer_averaged: float
    flops: float | None
    unpruned_flops: float | None
    at_most: bool


def estimate_cost(config: RunConfig, resources: Resources | None = None, plan: Plan | None = None) -> CostEstimate:
    """Return the nominal cost of a run, for any device. Raise UserError if it cannot work, as `make_plan` does.

    plan: of the run, where there is one, which saves its making.
    """
    if plan is None:
        method, checkpoint, text_tower = choose_parts(config)
    else:
        method, checkpoint, text_tower = plan.method, plan.checkpoint, plan.text_tower
    known = build_weightless(checkpoint, config.model)
    adapter = known.adapter
    rows: list[dict[str, Any]] = []
    for encoded, words in first_inputs(config, known, resources or Resources()):
        visual = visual_by_layer(adapter, method, encoded)
        rows.append(  # as a line of predictions.jsonl
            {
                "encoded": encoded.as_dict(),
                "sequence": words + visual[0],
                "visual": run_lengths(visual),
                "generated": 1,
            }
        )
    clip = None if text_tower is None else text_tower.config
    flops = summarise_flops(rows, adapter, method, clip, config.flops.convention)["flops"] or {}
    tokens = summarise_tokens(rows, adapter.decoder_depth)
    return CostEstimate(
        total=tokens["total"],
        kept=tokens["kept"]["mean"],
        layer_averaged=tokens["layer_averaged"],
        flops=flops.get("total"),
        unpruned_flops=flops.get("unpruned_total"),
        at_most=any(keeps_unknown_count(part) for part in method.parts(int(tokens["total"]))),
    )


def first_inputs(config: RunConfig, known: WeightlessModel, resources: Resources) -> list[tuple[EncoderInput, int]]:
    """Return the encoder's input and the number of other tokens of the first `QUESTIONS` questions that can be used.

    They depend on the model and the benchmark alone: jobs of a sweep share them. Raise NoUsableSample if none can.
    """
    data = (config.names["benchmark"], config.benchmark, config.data, config.orientation, config.limit, config.shard)
    key = data_hash([repr(config.model), *data])
    if key in resources.first_inputs:
        return resources.first_inputs[key]
    benchmark, _, samples = load_benchmark(config, resources)
    preprocessor = known.preprocessor
    found = list[tuple[EncoderInput, int]]()
    bad = list[str]()
    for sample in samples:
        try:
            media = media_of(sample, benchmark, preprocessor)
            inputs = preprocessor.batch([benchmark.prompt(sample)], [media], torch.device("cpu"), torch.float32)
        except BadSample as error:
            bad.append(f"the first, {sample.id}: {error}")
            continue
        encoded = EncoderInput.from_tensors(known.adapter, preprocessor.collate([media]))
        found.append((encoded, inputs["input_ids"].shape[1] - encoded.slots))
        if len(found) == QUESTIONS:
            break
    if not found:
        raise NoUsableSample(f"none of the {len(samples)} samples can be used; {bad[0]}")
    resources.first_inputs[key] = found
    return found


def keeps_unknown_count(method: Method) -> bool:
    """Return True if only the method knows how many tokens it keeps, since that depends on the image."""
    return bool(getattr(method, "adaptive", False)) or "tiles" in method.needs
