"""The cases that the settings of `vlmprune speed` name, and batches of the synthetic load.

Prompts of one batch have equal lengths and therefore no padding. The image is in the middle of the text. Text tokens
are random ids of the model's vocabulary, so that a prompt's length does not depend on the tokenizer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor

from vlmprune.config.overrides import AMOUNT, drop_ineffective, expand_sweep, first_key
from vlmprune.config.settings import RunConfig, compose_run
from vlmprune.errors import NotApplicable, UserError
from vlmprune.evaluation.idle_settings import IdleSettings
from vlmprune.evaluation.plan import choose_parts
from vlmprune.methods.base import Method
from vlmprune.methods.baselines import Unpruned
from vlmprune.models import loading
from vlmprune.models.base import EncoderInput
from vlmprune.models.checkpoint import find_checkpoint
from vlmprune.models.loading import LoadedModel
from vlmprune.models.preprocessing import Media
from vlmprune.models.processor import Checkpoint
from vlmprune.speed import Load

METHODS, RATIOS, BATCH_SIZES = "method=cls,fastv", "ratio=0.5,0.9", "batch_size=1,8"  # defaults


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
class Refusal:
    """A method and amount that this model cannot run, with the reason."""

    label: str
    ratio: float | None
    keep: int | None
    reason: str


@dataclass(frozen=True)
class SpeedPlan:
    """Cases of one model on one device; the first is the unpruned model."""

    config: RunConfig
    checkpoint: Checkpoint
    device: torch.device
    dtype: torch.dtype
    batch_sizes: list[int]
    cases: list[Case] = field(default_factory=lambda: [Case("unpruned", None, None, Unpruned())])
    refusals: list[Refusal] = field(default_factory=list)


def plan_cases(settings: Sequence[str], config_dir: str | None) -> SpeedPlan:
    """Return the cases that settings of runs name, each with one or several values; what is not given has a default.

    Raises UserError for bad input, NotApplicable if the model can run none of the cases.
    """
    sizes = [each for each in settings if first_key(each) == "batch_size"] or [BATCH_SIZES]
    overrides = [each for each in settings if first_key(each) != "batch_size"]
    given = set(map(_key, overrides))
    overrides += [METHODS] * ("method" not in given) + [RATIOS] * given.isdisjoint(AMOUNT)
    jobs = expand_sweep(overrides, config_dir)
    items = {item for job in jobs for item in job}
    several = Counter(map(_key, items))
    varying = {key for key, values in several.items() if values > 1} - {"method", "compile", *AMOUNT}
    jobs = [drop_ineffective(job) for job in jobs]
    configs = [compose_run(job, config_dir) for job in jobs]
    config = configs[0]
    for other in configs:
        if (other.model, other.device, other.outputs) != (config.model, config.device, config.outputs):
            raise UserError("speed measures one model on one device: give model, device and outputs one value each")
    batch_sizes = {compose_run([*jobs[0], *size], config_dir).batch_size for size in expand_sweep(sizes)}

    checkpoint = find_checkpoint(config.model)
    device = loading.resolve_device(config.device)
    dtype = loading.resolve_dtype(config.model.dtype, checkpoint, device)
    loading.check_hardware(config.model, checkpoint, dtype, device)
    planned = SpeedPlan(config, checkpoint, device, dtype, sorted(batch_sizes))
    left_out = IdleSettings()
    acting = [_add(planned, other, varying, left_out) for other in configs]
    if len(planned.refusals) == len(configs):
        raise NotApplicable(planned.refusals[0].reason)
    left_out.print_removed(acting)
    return planned


def _add(planned: SpeedPlan, config: RunConfig, varying: set[str], left_out: IdleSettings) -> RunConfig:
    """Add one combination to the cases, unless it is there already, or to the refused ones.

    Return it without the settings that cannot act in it.
    """
    try:
        config, (method, _, text_tower) = left_out.find_runnable(config, choose_parts)
    except NotApplicable as error:
        planned.refusals.append(Refusal(_label(config, varying), config.ratio, config.keep, str(error)))
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


@dataclass(frozen=True)
class SyntheticBatch:
    """One batch. inputs: arguments of generate(). encoded: sizes of one image in the encoder."""

    inputs: dict[str, Tensor]
    encoded: EncoderInput

    @property
    def batch_size(self) -> int:
        return len(self.inputs["input_ids"])


def make_batch(loaded: LoadedModel, load: Load, batch_size: int) -> SyntheticBatch:
    """Return `batch_size` prompts of load.prompt_tokens text tokens and an image. Raise UserError if too few."""
    prepare, side = loaded.preprocessor, load.image_size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (batch_size, side, side, 3), generator=generator, dtype=torch.uint8)
    media = [prepare.media([Image.fromarray(image.numpy())], "image") for image in pixels]
    token_ids = ordinary_token_ids(loaded)
    ids = []
    for own in media:
        placed = placeholder_ids(loaded, own)
        room = load.prompt_tokens - int((~loaded.adapter.visual_mask(torch.tensor(placed))).sum())
        if room < 2:
            around = load.prompt_tokens - room
            raise UserError(
                f"speed.prompt_tokens={load.prompt_tokens}: an image alone brings {around}; give {around + 2} or more"
            )
        text = token_ids[torch.randint(len(token_ids), (room,), generator=generator)].tolist()
        ids.append(text[: room // 2] + placed + text[room // 2 :])
    encoded = EncoderInput.from_tensors(loaded.adapter, prepare.collate(media[:1]))
    return SyntheticBatch(prepare.pad_batch(ids, media, loaded.device, loaded.model.dtype), encoded)


def placeholder_ids(loaded: LoadedModel, media: list[Media]) -> list[int]:
    """Return the token ids of the media's placeholders in a prompt, with their start and end tokens."""
    text = "".join(medium.text for medium in media)
    return loaded.preprocessor.tokenizer(text, add_special_tokens=False)["input_ids"]


def ordinary_token_ids(loaded: LoadedModel) -> Tensor:
    """Return the ids of the vocabulary that are not special to the model or its tokenizer, int64."""
    ids = torch.arange(loaded.adapter.config.text_config.vocab_size)
    special = loaded.adapter.visual_mask(ids)
    special |= torch.isin(ids, torch.tensor(loaded.preprocessor.tokenizer.all_special_ids))
    return ids[~special]
