"""From what the user typed to a checked `RunConfig`: one clear line for anything that cannot work.

Names are checked first (overrides.py); Hydra composes (groups, defaults, interpolation, the override grammar); values
are checked afterwards, against the type hints below.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from vlmprune.benchmarks.base import Orientation
from vlmprune.benchmarks.judge_client import check_judge
from vlmprune.benchmarks.subset import Subset
from vlmprune.errors import UserError
from vlmprune.files import expanded
from vlmprune.overrides import CONFIG_MODULE, check_names, explain, quoted
from vlmprune.schema import check_amount, check_file_names, construct
from vlmprune.secrets import check_secrets

# Settings of a model that say how many pixels or tiles a picture has; what stands null is the checkpoint's own.
LIMITS = ("min_pixels", "max_pixels", "video_min_pixels", "video_max_pixels", "min_tiles", "max_tiles")


@dataclass(frozen=True)
class ModelConfig:
    """Which checkpoint, and how it is loaded and prompted."""

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
    generation: Literal["checkpoint", "greedy"] = "checkpoint"  # whether its generation_config has a say
    min_pixels: int | None = None  # of a picture, on Qwen
    max_pixels: int | None = None
    video_min_pixels: int | None = None  # of a frame on Qwen2.5-VL, of all frames together on Qwen3-VL
    video_max_pixels: int | None = None
    min_tiles: int | None = None  # of a picture, on InternVL
    max_tiles: int | None = None


@dataclass(frozen=True)
class FlopsConfig:
    """How FLOPs are counted; no answer depends on it."""

    convention: Literal["vlmprune", "fastervlm"] = "vlmprune"


@dataclass(frozen=True)
class FeaturesConfig:
    """Where encodings of images are kept for the next question, method or ratio; in float32 no answer depends on it.

    In half precision an encoding is rounded as in the batch it was made in, which another run may compose otherwise.
    """

    memory_mb: int = 1024
    folder: str | None = None

    def __post_init__(self) -> None:
        if self.memory_mb < 0:
            raise ValueError(f"memory_mb={self.memory_mb}; allowed: 0 or more")


@dataclass(frozen=True)
class ShowConfig:
    """Pictures of kept tokens that a run saves; no answer depends on them."""

    samples: int = 4

    def __post_init__(self) -> None:
        if self.samples < 0:
            raise ValueError(f"samples={self.samples}; allowed: 0 or more")


@dataclass(frozen=True)
class RunConfig:
    """One run, composed and checked. `resolved` is the whole config as plain data, as written to config.yaml."""

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
    def named(self) -> dict[str, Any]:
        """`resolved`, with the name of each group's choice."""
        return self.resolved | {group: self.resolved[group] | {"name": name} for group, name in self.names.items()}

    @property
    def typed(self) -> list[str]:
        """Everything that was typed after `vlmprune run`."""
        return [*self.overrides, *([] if self.config_dir is None else [f"--config-dir={self.config_dir}"])]


@dataclass(frozen=True)
class _Scalars:
    """Types of the keys that stand at the top level of run.yaml."""

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
    batch_size: int = 32
    seed: int = 0
    device: str = "auto"
    outputs: str = "outputs"
    share_prefix: bool = True
    compile: bool = False
    devices: int = 1
    latency_samples: int = 16
    features: dict = field(default_factory=dict)
    flops: dict = field(default_factory=dict)
    show: dict = field(default_factory=dict)


def compose_run(overrides: list[str], config_dir: str | None = None) -> RunConfig:
    """Compose and check one run. Raises UserError, naming the value, what is allowed and the nearest match."""
    import hydra
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    overrides = list(map(quoted, overrides))
    choices = check_names(overrides, config_dir)
    search = [f"hydra.searchpath=[file://{config_dir}]"] if config_dir else []
    try:
        with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            composed = hydra.compose("run", overrides=overrides + search, return_hydra_config=True)
            names = {group: str(composed.hydra.runtime.choices[group]) for group in choices}
            with open_dict(composed):
                del composed["hydra"]
            data = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (hydra.errors.HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(explain(error)) from error
    assert isinstance(data, dict)
    return _check({str(key): value for key, value in data.items()}, names, tuple(overrides), config_dir)


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
    if scalars.batch_size < 1:
        raise UserError(f"batch_size={scalars.batch_size}: allowed: 1 or more")
    if scalars.devices < 1:
        raise UserError(f"devices={scalars.devices}: allowed: 1 or more")
    if scalars.latency_samples < 0:
        raise UserError(f"latency_samples={scalars.latency_samples}: allowed: 0 or more")
    model = construct(ModelConfig, groups["model"], "model.")
    flops = construct(FlopsConfig, scalars.flops, "flops.")
    show = construct(ShowConfig, scalars.show, "show.")
    features = construct(FeaturesConfig, scalars.features, "features.")
    check_judge(scalars.judge)
    if features.folder is not None:
        features = replace(features, folder=str(expanded("features.folder", features.folder)))
    outputs = str(expanded("outputs", scalars.outputs))
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
