"""Settings of a run, from the typed overrides to a checked `RunConfig`, with errors as one line.

Names are checked first (overrides.py); Hydra composes (groups, defaults, interpolation, the override grammar); values
are checked afterwards, against the type hints below.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal

from annotated_types import Interval

from vlmprune.config.composition import compose
from vlmprune.config.overrides import add_quotes, check_names
from vlmprune.config.secret_check import check_secrets
from vlmprune.config.subset import Subset
from vlmprune.config.typecheck import check_amount, check_bounds, check_file_names, construct
from vlmprune.errors import UserError
from vlmprune.files import expand_path

Orientation = Literal["upright", "stored"]  # pictures turned as their file says, or left as stored


@dataclass(frozen=True)
class ModelConfig:
    """The checkpoint, and the settings of loading and prompting it.

    options: the other settings of model.*; they are its family's, which checks them (`vlmprune.models.base.adapt`).
    """

    name: str
    path: str | None = None
    revision: str | None = None  # branch, tag or commit on the hub
    info: dict | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    attention: Literal["sdpa", "flash_attention_2", "eager"] = "sdpa"
    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential"] | None = None
    quantization: Literal["4bit", "8bit"] | None = None
    random_weights: bool = False
    prompt: Literal["chat_template", "vicuna_v1", "llava_v1"] = "chat_template"
    image: Literal["processor", "pad"] = "processor"
    generation: Literal["checkpoint", "greedy"] = "checkpoint"  # greedy ignores its generation_config but for the ends
    options: dict[str, Any] = field(default_factory=dict)


OF_EVERY_MODEL = tuple(each.name for each in fields(ModelConfig) if each.name != "options")


@dataclass(frozen=True)
class FlopsConfig:
    """Convention of counting FLOPs; no answer depends on it."""

    convention: Literal["vlmprune", "fastervlm"]


@dataclass(frozen=True)
class FeaturesConfig:
    """Store of image encodings for the next question, method or ratio; in float32 no answer depends on it.

    In half precision the rounding of an encoding depends on its batch, which may differ in another run.
    """

    memory_mb: Annotated[int, Interval(ge=0, le=10**8)]
    folder: str | None


@dataclass(frozen=True)
class ShowConfig:
    """Pictures of kept tokens that a run saves; no answer depends on them."""

    samples: Annotated[int, Interval(ge=0, le=10_000)]


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """Settings of the requests to a judge."""

    concurrency: Annotated[int, Interval(ge=1, le=1000), "questions at a time"] = 8
    retries: Annotated[int, Interval(ge=0, le=1000), "further attempts for one question"] = 6
    timeout: Annotated[
        float, Interval(ge=0.001, le=86400), "seconds of an attempt, from the connection to the reply's last byte"
    ] = 60.0
    wait: Annotated[
        float, Interval(ge=0, le=3600), "seconds before the first retry, doubled for each further one, at most 60"
    ] = 1.0
    deadline: Annotated[
        float, Interval(ge=0.001, le=86400), "seconds of a question, all attempts and waits together"
    ] = 900.0
    temperature: Annotated[float, Interval(ge=0, le=100), "null sends none, for models that accept none"] | None = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class JudgeConfig(JudgeSettings):
    """Settings of a run's judge. base_url: of its endpoint; without one the run has no judge. model: its name there."""

    base_url: str | None
    model: str | None


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Types of the settings of a run. configs/run.yaml has the default and the meaning of each."""

    model: ModelConfig
    method: dict[str, Any]
    benchmark: dict[str, Any]
    logger: dict[str, Any]
    ratio: float | None
    keep: int | None
    positions: Literal["published", "renumber", "keep"]
    scope: Literal["published", "tile", "image"]
    budget: Literal["published", "average"]
    limit: int | str | None
    shard: str | None
    on_bad_sample: Literal["fail", "skip"]
    orientation: Orientation
    data: str | None
    judge: JudgeConfig
    batch_size: Annotated[int, Interval(ge=1, le=65_536)]
    seed: int
    device: str
    outputs: str
    share_prefix: bool
    compile: bool
    devices: Annotated[int, Interval(ge=1, le=1024)]
    latency_samples: Annotated[int, Interval(ge=0, le=1_000_000)]
    features: FeaturesConfig
    flops: FlopsConfig
    show: ShowConfig


@dataclass(frozen=True, kw_only=True)
class RunConfig(RunSettings):
    """Settings of one run, composed and checked. `resolved` is the whole config as plain data, as in config.yaml."""

    names: dict[str, str]  # group -> choice
    overrides: tuple[str, ...]  # as typed
    resolved: dict[str, Any]
    config_dir: str | None  # a user's own config folder

    @property
    def with_names(self) -> dict[str, Any]:
        """`resolved` with the name of each group's choice."""
        return self.resolved | {group: self.resolved[group] | {"name": name} for group, name in self.names.items()}

    @property
    def arguments(self) -> list[str]:
        """All arguments that were typed after `vlmprune run`."""
        return [*self.overrides, *([] if self.config_dir is None else [f"--config-dir={self.config_dir}"])]


def compose_run(overrides: list[str], config_dir: str | None = None) -> RunConfig:
    """Return the composed and checked settings of one run. Raise UserError with the value, the allowed ones and the
    nearest match."""
    overrides = list(map(add_quotes, overrides))
    data, names = compose(overrides, check_names(overrides, config_dir), config_dir)
    check_secrets(data)
    for group, name in names.items():
        if not isinstance(data.get(group), dict):
            raise UserError(f"{group}={name}: its YAML must hold key: value lines, without a # @package line")
    given: RunSettings = construct(RunSettings, data | {"model": separate_options(data["model"])}, "")
    check_file_names(data)
    check_amount(given.ratio, given.keep)
    Subset(given.limit, given.shard)  # checks both
    paths: dict[str, Any] = {"outputs": str(expand_path("outputs", given.outputs))}
    if given.features.folder is not None:
        folder = str(expand_path("features.folder", given.features.folder))
        paths["features"] = replace(given.features, folder=folder)
    return RunConfig(
        names=names, overrides=tuple(overrides), resolved=data, config_dir=config_dir, **vars(given) | paths
    )


def separate_options(model: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a model with those that not every model has under `options`, as in ModelConfig."""
    options = {name: value for name, value in model.items() if name not in OF_EVERY_MODEL}
    return {name: value for name, value in model.items() if name in OF_EVERY_MODEL} | {"options": options}
