"""Settings of a run, from the typed overrides to a checked `RunConfig`, with errors as one line.

Names are checked first (overrides.py); Hydra composes (groups, defaults, interpolation, the override grammar); values
are checked afterwards, against the type hints below.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from annotated_types import Interval

from vlmprune.config.composition import compose
from vlmprune.config.overrides import add_quotes, check_names
from vlmprune.config.secret_check import check_secrets
from vlmprune.config.subset import Subset
from vlmprune.config.typecheck import check_amount, check_bounds, check_file_names, check_type, construct
from vlmprune.errors import UserError
from vlmprune.files import expand_path

Orientation = Literal["upright", "stored"]  # pictures turned as their file says, or left as stored


# Settings of a model for the number of pixels or tiles of a picture; null takes the checkpoint's value.
LIMITS = ("min_pixels", "max_pixels", "video_min_pixels", "video_max_pixels", "min_tiles", "max_tiles")
Pixels = Annotated[int, Interval(ge=1, le=10**9)] | None
Tiles = Annotated[int, Interval(ge=1, le=10_000)] | None


@dataclass(frozen=True)
class ModelConfig:
    """The checkpoint, and the options of loading and prompting it."""

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
    newline: Literal["drop", "keep"] | None = None  # of models that have newline tokens
    packing: Literal["checkpoint", "fastervlm"] | None = None  # of LLaVA-NeXT
    generation: Literal["checkpoint", "greedy"] = "checkpoint"  # greedy ignores its generation_config but for the ends
    min_pixels: Pixels = None  # of a picture, on Qwen
    max_pixels: Pixels = None
    video_min_pixels: Pixels = None  # of a frame on Qwen2.5-VL, of all frames together on Qwen3-VL
    video_max_pixels: Pixels = None
    min_tiles: Tiles = None  # of a picture, on InternVL
    max_tiles: Tiles = None


@dataclass(frozen=True)
class FlopsConfig:
    """Convention of counting FLOPs; no answer depends on it."""

    convention: Literal["vlmprune", "fastervlm"] = "vlmprune"


@dataclass(frozen=True)
class FeaturesConfig:
    """Store of image encodings for the next question, method or ratio; in float32 no answer depends on it.

    In half precision the rounding of an encoding depends on its batch, which may differ in another run.
    """

    memory_mb: Annotated[int, Interval(ge=0, le=10**8)] = 1024
    folder: str | None = None


@dataclass(frozen=True)
class ShowConfig:
    """Pictures of kept tokens that a run saves; no answer depends on them."""

    samples: Annotated[int, Interval(ge=0, le=10_000)] = 4


@dataclass(frozen=True)
class RunConfig:
    """Settings of one run, composed and checked. `resolved` is the whole config as plain data, as in config.yaml."""

    model: ModelConfig
    method: dict[str, Any]
    benchmark: dict[str, Any]
    logger: dict[str, Any]
    names: dict[str, str]  # group -> choice
    overrides: tuple[str, ...]  # as typed
    resolved: dict[str, Any]
    config_dir: str | None  # a user's own config folder
    ratio: float | None
    keep: int | None
    positions: str
    scope: str
    budget: str
    limit: int | str | None
    shard: str | None
    on_bad_sample: str
    orientation: Orientation
    data: str | None
    judge: dict[str, Any]
    batch_size: int
    seed: int
    device: str
    outputs: str
    share_prefix: bool
    compile: bool
    devices: int
    latency_samples: int
    features: FeaturesConfig
    flops: FlopsConfig
    show: ShowConfig

    @property
    def with_names(self) -> dict[str, Any]:
        """`resolved` with the name of each group's choice."""
        return self.resolved | {group: self.resolved[group] | {"name": name} for group, name in self.names.items()}

    @property
    def arguments(self) -> list[str]:
        """All arguments that were typed after `vlmprune run`."""
        return [*self.overrides, *([] if self.config_dir is None else [f"--config-dir={self.config_dir}"])]


@dataclass(frozen=True)
class _Scalars:
    """Types of the keys at the top level of run.yaml, without the groups."""

    ratio: float | None = None
    keep: int | None = None
    positions: Literal["published", "renumber", "keep"] = "published"
    scope: Literal["published", "tile", "image"] = "published"
    budget: Literal["published", "average"] = "published"
    limit: int | str | None = None
    shard: str | None = None
    on_bad_sample: Literal["fail", "skip"] = "fail"
    orientation: Literal["upright", "stored"] = "upright"
    data: str | None = None
    judge: dict = field(default_factory=dict)
    batch_size: Annotated[int, Interval(ge=1, le=65_536)] = 32
    seed: int = 0
    device: str = "auto"
    outputs: str = "outputs"
    share_prefix: bool = True
    compile: bool = False
    devices: Annotated[int, Interval(ge=1, le=1024)] = 1
    latency_samples: Annotated[int, Interval(ge=0, le=1_000_000)] = 16
    features: dict = field(default_factory=dict)
    flops: dict = field(default_factory=dict)
    show: dict = field(default_factory=dict)


def compose_run(overrides: list[str], config_dir: str | None = None) -> RunConfig:
    """Return the composed and checked settings of one run. Raise UserError with the value, the allowed ones and the
    nearest match."""
    overrides = list(map(add_quotes, overrides))
    data, names = compose(overrides, check_names(overrides, config_dir), config_dir)
    return _check(data, names, tuple(overrides), config_dir)


def _check(
    data: dict[str, Any], names: dict[str, str], overrides: tuple[str, ...], config_dir: str | None
) -> RunConfig:
    check_secrets(data)
    for group, name in names.items():
        if not isinstance(data.get(group), dict):
            raise UserError(f"{group}={name}: its YAML must hold key: value lines, without a # @package line")
    groups = {group: data[group] for group in names}
    scalars = construct(_Scalars, {key: value for key, value in data.items() if key not in groups}, "")
    check_file_names(data)
    check_amount(scalars.ratio, scalars.keep)
    Subset(scalars.limit, scalars.shard)  # checks both
    model = construct(ModelConfig, groups["model"], "model.")
    flops = construct(FlopsConfig, scalars.flops, "flops.")
    show = construct(ShowConfig, scalars.show, "show.")
    features = construct(FeaturesConfig, scalars.features, "features.")
    check_judge(scalars.judge)
    if features.folder is not None:
        features = replace(features, folder=str(expand_path("features.folder", features.folder)))
    outputs = str(expand_path("outputs", scalars.outputs))
    return RunConfig(
        model,
        groups["method"],
        groups["benchmark"],
        groups["logger"],
        names,
        overrides,
        data,
        config_dir,
        **vars(scalars) | {"outputs": outputs, "flops": flops, "features": features, "show": show},
    )


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


def check_judge(settings: dict[str, Any]) -> None:
    """Raise UserError if one of the judge.* settings cannot work, also while no endpoint is given."""
    endpoint = {name: settings[name] for name in ("base_url", "model")}
    for name, value in endpoint.items():
        check_type(f"judge.{name}", value, str | None)
    construct(JudgeSettings, {name: value for name, value in settings.items() if name not in endpoint}, "judge.")
