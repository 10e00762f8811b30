"""The settings of `vlmprune speed`, the cases that they name, and the synthetic load.

The latter are read here and not from run.yaml, because a run's config.yaml must not contain them.

Prompts of one batch have equal lengths and therefore no padding. The image is in the middle of the text. Text tokens
are random ids of the model's vocabulary, so that a prompt's length does not depend on the tokenizer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Interval
from PIL import Image
from torch import Tensor

from vlmprune.config.arguments import read_settings
from vlmprune.config.overrides import AMOUNT, drop_ineffective, expand_sweep, first_key, parse_overrides
from vlmprune.config.settings import RunConfig, compose_run
from vlmprune.config.typecheck import check_type, construct
from vlmprune.errors import NotApplicable, UserError, check_choice, nearest
from vlmprune.evaluation.idle_settings import IdleSettings
from vlmprune.evaluation.plan import choose_parts
from vlmprune.files import expand_path
from vlmprune.methods.base import Method
from vlmprune.methods.baselines import Unpruned
from vlmprune.models import loading
from vlmprune.models.base import EncoderInput
from vlmprune.models.checkpoint import find_checkpoint
from vlmprune.models.loading import LoadedModel
from vlmprune.models.preprocessing import Media
from vlmprune.models.processor import Checkpoint
from vlmprune.results.tables import FORMATS

RUN_SETTINGS = (
    "model",
    "method",
    "ratio",
    "keep",
    "positions",
    "scope",
    "budget",
    "compile",
    "seed",
    "device",
    "batch_size",
    "outputs",
)
COMMAND_SETTINGS = ("format", "json", "chart", "from")
METHODS, RATIOS, BATCH_SIZES = "method=cls,fastv", "ratio=0.5,0.9", "batch_size=1,8"  # defaults
NONE = Path("none")  # chart=none


@dataclass(frozen=True)
class Load:
    """The fixed synthetic load, the same for every method; set by `vlmprune speed speed.NAME=VALUE`."""

    prompt_tokens: Annotated[int, Interval(ge=8, le=1_000_000)] = (
        64  # text tokens of each prompt: all but its visual tokens
    )
    new_tokens: Annotated[int, Interval(ge=1, le=1_000_000)] = (
        32  # generated for every prompt; end-of-sequence tokens are ignored
    )
    image_size: Annotated[int, Interval(ge=28, le=16_384)] = (
        672  # pixels along a side of the random square image; the processor resizes it
    )
    repeats: Annotated[int, Interval(ge=1, le=100_000)] = 7  # timed calls of each method
    warm_up: Annotated[int, Interval(ge=1, le=100_000)] = 2  # untimed calls of each method before them


@dataclass
class SpeedRequest:
    """The parsed command. overrides: those of runs, without batch_size; json, chart: None for the default file.

    source: a stored result to print; nothing is measured then.
    """

    overrides: list[str] = field(default_factory=list)
    batch_sizes: str = BATCH_SIZES
    load: Load = field(default_factory=Load)
    format: str = "table"
    json: Path | None = None
    chart: Path | None = None
    source: Path | None = None


def read_speed_request(settings: list[str]) -> SpeedRequest:
    """Parse the command's settings. Raise UserError with the allowed values and the nearest match."""
    request, own = SpeedRequest(), []
    for setting, override in zip(settings, parse_overrides(settings), strict=True):
        head, key = first_key(override.key_or_group), override.key_or_group
        if key == "speed":
            names = ", ".join(f"speed.{each.name}" for each in fields(Load))
            raise UserError(f"{setting}: is a group of settings; allowed: {names}")
        if head not in (allowed := sorted([*RUN_SETTINGS, "speed", *COMMAND_SETTINGS])):
            raise UserError(f"'{key}' is not a setting of speed{nearest(head, allowed)}; allowed: {', '.join(allowed)}")
        if head in ("speed", *COMMAND_SETTINGS):
            own.append(setting)
        elif head == "batch_size":
            request.batch_sizes = setting
        else:
            request.overrides.append(setting)
    load = [override.key_or_group for override in parse_overrides(own) if override.key_or_group not in COMMAND_SETTINGS]
    values = read_settings(own, "speed", one=[*COMMAND_SETTINGS, *load])
    request.format = check_choice(str(values.get("format", "table")), FORMATS, "format")
    request.json, request.chart = (_file(key, values.get(key)) for key in ("json", "chart"))
    request.source = _file("from", values.get("from"))
    others = [*request.overrides, *(setting for setting in own if first_key(setting) == "speed")]
    if request.source is not None and others:
        raise UserError(f"from={request.source}: is a result, and {others[0]} cannot change it; leave one of them out")
    given = {setting.partition("=")[0] for setting in request.overrides}
    request.overrides += [METHODS] * ("method" not in given) + [RATIOS] * given.isdisjoint(("ratio", "keep"))
    request.load = construct(Load, {key.removeprefix("speed."): values[key] for key in load}, "speed.")
    return request


def _file(key: str, value: Any) -> Path | None:
    check_type(key, value, str | None)
    if value is None:
        return None
    if key == "chart" and value == "none":
        return NONE
    endings = {"json": (".json",), "from": (".json",), "chart": (".png", ".svg")}[key]
    if Path(value).suffix not in endings:
        raise UserError(f"{key}={value}: allowed: a file name that ends in {' or '.join(endings)}")
    return expand_path(key, value)


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


def plan_cases(request: SpeedRequest, config_dir: str | None) -> SpeedPlan:
    """Return the cases of a request. Raise UserError for bad input, NotApplicable if the model can run none of them."""
    jobs = expand_sweep(request.overrides, config_dir)
    items = {item for job in jobs for item in job}
    several = Counter(map(_key, items))
    varying = {key for key, values in several.items() if values > 1} - {"method", "compile", *AMOUNT}
    jobs = [drop_ineffective(job) for job in jobs]
    configs = [compose_run(job, config_dir) for job in jobs]
    config = configs[0]
    for other in configs:
        if (other.model, other.device, other.outputs) != (config.model, config.device, config.outputs):
            raise UserError("speed measures one model on one device: give model, device and outputs one value each")
    sizes = [compose_run([*jobs[0], *size], config_dir).batch_size for size in expand_sweep([request.batch_sizes])]

    checkpoint = find_checkpoint(config.model)
    device = loading.resolve_device(config.device)
    dtype = loading.resolve_dtype(config.model.dtype, checkpoint, device)
    loading.check_hardware(config.model, checkpoint, dtype, device)
    planned = SpeedPlan(config, checkpoint, device, dtype, sorted(set(sizes)))
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
