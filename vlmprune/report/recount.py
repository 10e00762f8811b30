"""FLOPs of a finished run by another convention, from its prediction lines, without weights or new answers."""

from __future__ import annotations

from typing import Any

import torch

from vlmprune.models.architecture import draw_weights
from vlmprune.models.base import adapt
from vlmprune.plan import Plan
from vlmprune.progress import say
from vlmprune.report.result import in_order, summarise_flops


def recount_flops(plan: Plan, result: dict[str, Any]) -> dict[str, Any]:
    """Return `result`, of the finished run in the plan's directory, with FLOPs by flops.convention.

    If its convention is another, count the FLOPs again and rewrite result.json; a W&B run is not updated.
    """
    convention = plan.config.flops.convention
    if (result["answers"]["flops"] or {}).get("convention", "vlmprune") == convention:
        return result
    # Only shapes are read: no weights are needed, and the attention backend does not matter.
    model = draw_weights(plan.checkpoint.config, "sdpa", plan.dtype, torch.device("meta"))
    clip = None if plan.text_tower is None else plan.text_tower.config
    rows = in_order(plan.directory.predictions(), plan.samples)
    counted = summarise_flops(rows, adapt(model), plan.method, clip, convention)
    answers = {name: value for name, value in result["answers"].items() if name != "flops_unknown"} | counted
    comparable = {name: value for name, value in result["comparable"].items() if name != "flops"}
    if "flops" in plan.comparable:
        comparable["flops"] = plan.comparable["flops"]
    result = result | {"answers": answers, "comparable": comparable}
    plan.directory.finish(result)
    say(f"FLOPs counted again by flops.convention={convention}, from the recorded answers")
    return result
