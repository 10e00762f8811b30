"""The cases to measure: every requested method and amount, checked before any weights load."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch

from vlmprune.config import RunConfig, compose_run
from vlmprune.errors import NotApplicable, UserError
from vlmprune.idle import LeftOut
from vlmprune.methods.base import Method
from vlmprune.methods.none import Unpruned
from vlmprune.models import loading
from vlmprune.models.checkpoint import Checkpoint
from vlmprune.overrides import AMOUNT, expand_sweep, without_unused
from vlmprune.plan import choose_parts
from vlmprune.speed.settings import Request


@dataclass(frozen=True)
class Case:
    """A method with its amount. text_tower: the CLIP text tower of methods that read the question.

    compiled: True if it runs compiled, with a static KV cache.
    """

    label: str
    ratio: float | None
    keep: int | None
    method: Method
    text_tower: Checkpoint | None = None
    compiled: bool = False


@dataclass(frozen=True)
class Refused:
    """A method and amount that this model cannot run, with the reason."""

    label: str
    ratio: float | None
    keep: int | None
    reason: str


@dataclass(frozen=True)
class Plan:
    """Cases of one model on one device; the first is the unpruned model."""

    config: RunConfig
    checkpoint: Checkpoint
    device: torch.device
    dtype: torch.dtype
    batch_sizes: list[int]
    cases: list[Case] = field(default_factory=lambda: [Case("unpruned", None, None, Unpruned())])
    refused: list[Refused] = field(default_factory=list)


def plan(request: Request, config_dir: str | None) -> Plan:
    """Return the cases of a request. Raise UserError for bad input, NotApplicable if the model can run none of them."""
    jobs = expand_sweep(request.overrides, config_dir)
    items = {item for job in jobs for item in job}
    several = Counter(map(_key, items))
    varying = {key for key, values in several.items() if values > 1} - {"method", "compile", *AMOUNT}
    jobs = [without_unused(job) for job in jobs]
    configs = [compose_run(job, config_dir) for job in jobs]
    config = configs[0]
    for other in configs:
        if (other.model, other.device, other.outputs) != (config.model, config.device, config.outputs):
            raise UserError("speed measures one model on one device: give model, device and outputs one value each")
    sizes = [compose_run([*jobs[0], *size], config_dir).batch_size for size in expand_sweep([request.batch_sizes])]

    checkpoint = loading.find_checkpoint(config.model)
    device = loading.resolve_device(config.device)
    dtype = loading.resolve_dtype(config.model.dtype, checkpoint, device)
    loading.check_hardware(config.model, checkpoint, dtype, device)
    planned = Plan(config, checkpoint, device, dtype, sorted(set(sizes)))
    left_out = LeftOut()
    acting = [_add(planned, other, varying, left_out) for other in configs]
    if len(planned.refused) == len(configs):
        raise NotApplicable(planned.refused[0].reason)
    left_out.tell(acting)
    return planned


def _add(planned: Plan, config: RunConfig, varying: set[str], left_out: LeftOut) -> RunConfig:
    """Add one combination to the cases, unless it is there already, or to the refused ones.

    Return it without the settings that cannot act in it.
    """
    try:
        config, (method, _, text_tower) = left_out.settle(config, choose_parts)
    except NotApplicable as error:
        planned.refused.append(Refused(_label(config, varying), config.ratio, config.keep, str(error)))
        return config
    label = _label(config, varying)
    case = Case(label, config.ratio, config.keep, method, text_tower, config.compile)
    if case not in planned.cases:
        planned.cases.append(case)
    return config


def _label(config: RunConfig, varying: set[str]) -> str:
    settings = [item.removeprefix("method.") for item in config.overrides if _key(item) in varying]
    name = config.names["method"].replace("none", "unpruned")
    return " ".join([name, *settings, *["compiled"] * config.compile])


def _key(override: str) -> str:
    return override.partition("=")[0]
