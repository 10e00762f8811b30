"""Plan of a run: settings resolved to objects and checked before any weight is loaded; what runs share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from vlmprune.benchmarks.base import Benchmark, Sample
from vlmprune.benchmarks.contract import with_checks
from vlmprune.benchmarks.judging import Judge
from vlmprune.config.registry import DESCRIPTION, build_method, target_class, target_of
from vlmprune.config.settings import RunConfig
from vlmprune.config.subset import Subset
from vlmprune.config.typecheck import construct
from vlmprune.errors import IdleSetting, NotApplicable, UserError, user_error_on_failure
from vlmprune.evaluation.generation import Rules, read_rules
from vlmprune.evaluation.identity import code_identity, method_identity
from vlmprune.evaluation.idle_settings import check_idle
from vlmprune.evaluation.run_directory import RunDirectory
from vlmprune.files import expand_path
from vlmprune.hashing import data_hash
from vlmprune.loggers.wandb_upload import Uploads
from vlmprune.methods.base import Method
from vlmprune.methods.baselines import Unpruned
from vlmprune.models import loading, processor
from vlmprune.models.base import EncoderInput, read_family
from vlmprune.models.checkpoint import describe_checkpoint, with_identity
from vlmprune.models.clip_text import find_method_clip
from vlmprune.models.compatibility import check_pair, check_settings, drop_default_positions
from vlmprune.models.outline import build_weightless, check_inputs
from vlmprune.models.processor import Checkpoint
from vlmprune.models.weights import check_sizes
from vlmprune.source_code import ENGINE

# Settings for the place of a benchmark's data and the way of reading it; only the data's identity can change an answer.
LOCATION = ("path", "fallback", "videos", "pictures", "streaming")
# Settings of every model that can change an answer, beside the checkpoint; those of its family are in its options.
PROMPTING = ("attention", "quantization", "prompt", "image")


@dataclass
class Plan:
    """All parts of a run, resolved and checked, without weights."""

    config: RunConfig
    method: Method
    checkpoint: processor.Checkpoint
    benchmark: Benchmark
    samples: list[Sample]
    device: torch.device
    dtype: torch.dtype
    directory: RunDirectory
    unpruned: RunDirectory  # of the same model, benchmark and subset; the reference of a relative score
    comparable: dict[str, str]
    judge: Judge | None  # of the answers that a language model scores
    text_tower: Checkpoint | None  # of methods that compare patches with the question
    rules: Rules  # of the checkpoint's greedy decoding
    limits: dict[str, int]  # of the pixels or tiles of a picture, the checkpoint's where none were given

    @property
    def model_key(self) -> tuple[Any, ...]:
        """Everything that the loaded model depends on."""
        return self.checkpoint.identity, self.dtype, self.device, repr(self.config.model)


@dataclass
class Resources:
    """Objects that outlive a run and serve the next one of its process.

    benchmarks: by the hash of their config, each with all of its samples and those of each subset. first_inputs: the
    encoder's input and the other tokens of the first questions, by the hash of all that these depend on. model: the
    last one, with its encodings; model_key: all that it depends on. uploads: of W&B's files. header: the last run's,
    which is not printed again while it is the same.
    """

    benchmarks: dict[str, tuple[Benchmark, list[Sample], dict[Subset, list[Sample]]]] = field(default_factory=dict)
    first_inputs: dict[str, list[tuple[EncoderInput, int]]] = field(default_factory=dict)
    model: loading.LoadedModel | None = None
    model_key: tuple[Any, ...] = ()
    uploads: Uploads = field(default_factory=Uploads)
    header: str = ""


def make_plan(config: RunConfig, resources: Resources | None = None, weights: str | None = None) -> Plan:
    """Return the plan of a run. Raise UserError for settings that cannot work, before any weight is loaded.

    weights: the identity of a loaded model's weights that are not those of the checkpoint's files.
    """
    method, checkpoint, text_tower = choose_parts(config)
    if weights is not None:
        checkpoint = replace(checkpoint, identity=f"changed:{data_hash([checkpoint.identity, weights])}")
    rules = read_rules(checkpoint, config.model.generation)
    device = loading.resolve_device(config.device)
    dtype = loading.resolve_dtype(config.model.dtype, checkpoint, device)
    loading.check_hardware(config.model, checkpoint, dtype, device)

    benchmark, everything, samples = load_benchmark(config, resources)
    judge = build_judge(config, benchmark)

    weightless = build_weightless(checkpoint, config.model)
    prepare_inputs, pruning_options = weightless.preprocessor, weightless.adapter.pruning_options
    if any(sample.media == "video" for sample in samples) and prepare_inputs.takes_video:
        check_inputs(weightless, checkpoint.source, "video")
    check_idle(config, method, checkpoint, benchmark, everything)
    # Only limits of such media that differ from the checkpoint's: a setting that repeats its value is the same run.
    own, kinds = prepare_inputs.own_limits, {sample.media for sample in samples}
    chosen = {
        name: value
        for name, value in prepare_inputs.limits.items()
        if value != own[name] and ("video" if name.startswith("video") else "image") in kinds
    }
    options = {key: value for key, value in config.model.options.items() if value is not None and key not in own}
    chosen_rules = {} if config.model.generation == "checkpoint" else {"generation": config.model.generation}

    identity: dict[str, Any] = {
        "checkpoint": checkpoint.identity,
        "model": {key: value for key in PROMPTING if (value := getattr(config.model, key)) is not None}
        | options
        | chosen
        | chosen_rules,
        "benchmark": {key: value for key, value in config.benchmark.items() if key not in (*DESCRIPTION, *LOCATION)}
        | {"orientation": config.orientation},
        "benchmark_code": code_identity(type(benchmark)),
        "data": benchmark.identity(),
        "subset": Subset(config.limit, config.shard).name(len(everything)),
        "dtype": str(dtype).removeprefix("torch."),
        "engine": ENGINE,
    }
    if dtype != torch.float32:  # kernels of another batch shape round differently in half precision
        identity["batch_size"] = config.batch_size
        identity["share_prefix"], identity["compile"] = config.share_prefix, config.compile
    shown = [options[key] for key in sorted(options.keys() - pruning_options)]  # those that act unpruned too
    prompting = {key: identity["benchmark"].get(key) for key in ("prefix", "suffix")}
    comparable = {
        "benchmark": data_hash([identity[key] for key in ("benchmark", "data")])[:16],
        "scorer": identity["benchmark_code"][:16],  # `vlmprune score` updates it
        "subset": identity["subset"],
        "prompt": data_hash([config.model.prompt, config.model.image, prompting])[:16],
        "model": data_hash([identity["checkpoint"], config.model.quantization, *(shown or [None])])[:16],
        "dtype": identity["dtype"],
        "engine": str(ENGINE),
    }
    if chosen:
        comparable["pictures"] = ", ".join(f"{name}={value}" for name, value in chosen.items())
    comparable |= chosen_rules | benchmark.scoring_tools()
    if config.flops.convention != "vlmprune":  # answers compare, but a table has one column of FLOPs
        comparable["flops"] = config.flops.convention
    folder = Path(config.outputs) / benchmark_name(config, benchmark) / model_name(config)
    unpruned = run_directory(folder, "none-default", identity, Unpruned(), pruning_options)
    if text_tower is not None:
        identity["text_tower"] = text_tower.identity
    name = f"{config.names['method']}-{amount_name(method)}"
    directory = run_directory(folder, name, identity, method, pruning_options)
    return Plan(
        config,
        method,
        checkpoint,
        benchmark,
        samples,
        device,
        dtype,
        directory,
        unpruned,
        comparable,
        judge,
        text_tower,
        rules,
        prepare_inputs.limits,
    )


def choose_parts(config: RunConfig) -> tuple[Method, Checkpoint, Checkpoint | None]:
    """Return the method, the checkpoint, and the CLIP with which the method reads the question or None, for any device.

    Raises NotApplicable if the model cannot run the method, UserError for anything else that cannot work.
    """
    method = build_method(
        config.names["method"],
        ratio=config.ratio,
        keep=config.keep,
        positions=config.positions,
        scope=config.scope,
        budget=config.budget,
        config=config.method,
        config_dir=config.config_dir,
        run_seed=config.seed,
    )
    checkpoint = describe_checkpoint(config.model)
    with user_error_on_failure(
        f"model.path={checkpoint.source}: its vision_config cannot be used", "correct its config.json"
    ):
        family = read_family(checkpoint.config)
    check_pair(family, method, config.names["method"], model_name(config))
    method = drop_default_positions(method, family)
    check_settings(method, family, checkpoint.config.text_config.num_hidden_layers, config.names["method"])
    check_compile(config, method, checkpoint.config)
    # The parts of the model are built before a file of weights is opened, even to hash it.
    empty = build_weightless(checkpoint, config.model).adapter.model
    checkpoint = with_identity(checkpoint)
    if checkpoint.folder:
        check_sizes(checkpoint, empty)
    text_tower = find_method_clip(method, family.tower, checkpoint.config.vision_config)
    return method, checkpoint, text_tower


def check_compile(config: RunConfig, method: Method, model: Any) -> None:
    """Raise UserError if compile=true has no effect or does not work here. model: the checkpoint's config."""
    if not config.compile:
        return
    if method.reads_question:
        raise NotApplicable(
            f"compile=true: {config.names['method']} keeps other tokens for every question; it works with methods "
            "before the language model that do not read it"
        )
    if not config.share_prefix:
        raise UserError("compile=true needs the shared beginnings of prompts: leave share_prefix=true")
    settings = {
        "device_map": config.model.device_map,
        "quantization": config.model.quantization,
        "attention": "flash_attention_2" if config.model.attention == "flash_attention_2" else None,
    }
    for name, value in settings.items():
        if value is not None:
            raise UserError(f"compile=true does not work with model.{name}={value}: leave one of them out")
    if model.model_type == "qwen3_vl":
        raise NotApplicable("compile=true: Qwen3-VL adds visual features between decoder layers, which graphs do not")
    layers = getattr(model.text_config, "layer_types", None) or ["full_attention"]
    if set(layers) != {"full_attention"}:
        raise NotApplicable(f"compile=true: decoder layers of {', '.join(sorted(set(layers)))}; full_attention alone")


def load_benchmark(
    config: RunConfig, resources: Resources | None = None
) -> tuple[Benchmark, list[Sample], list[Sample]]:
    """Return the benchmark of the composed config, all of its samples, and those of the run's subset.

    Raise UserError if its data are missing.
    """
    subset = Subset(config.limit, config.shard)
    part = not subset.is_whole
    key = data_hash([config.names["benchmark"], config.benchmark, config.data, config.orientation, part])
    known = {} if resources is None else resources.benchmarks
    if key not in known:
        benchmark = build_benchmark(config)
        known[key] = benchmark, benchmark.load(part=part), {}
    benchmark, everything, subsets = known[key]
    if subset not in subsets:
        subsets[subset] = subset.choose(everything)
    return benchmark, everything, subsets[subset]


def run_directory(
    folder: Path, name: str, identity: dict[str, Any], method: Method, pruning_options: frozenset[str]
) -> RunDirectory:
    """Return the directory of a run, named by the fingerprint of all that can change its answers."""
    acting = dict(identity)
    if not any(part.stage in ("sequence", "vision") for part in method.parts(1)):  # nothing is dropped before the LM
        acting["model"] = {key: value for key, value in identity["model"].items() if key not in pruning_options}
    if method.reads_question:  # then prompts have no prefix to share
        acting.pop("share_prefix", None)
    fingerprint = data_hash(acting | method_identity(method))
    return RunDirectory(folder / f"{name}-{fingerprint[:12]}", fingerprint)


def build_benchmark(config: RunConfig) -> Benchmark:
    """Return the benchmark object of the composed config."""
    settings = {key: value for key, value in config.benchmark.items() if key not in DESCRIPTION}
    if config.data is not None:
        settings["path"] = str(local_copy(config))
    target = target_of(config.benchmark, f"benchmark={config.names['benchmark']}")
    benchmark: Benchmark = construct(target_class(target, Benchmark), settings, "benchmark.")
    benchmark.orientation = config.orientation
    return with_checks(benchmark)


def local_copy(config: RunConfig) -> Path:
    """Return data/BENCHMARK, with any suffix. Raise UserError without the folder `data`, or if it has no such entry."""
    folder = expand_path("data", str(config.data))
    if not folder.is_dir():
        raise UserError(f"data={config.data}: no such folder")
    name = config.names["benchmark"]
    for entry in sorted(folder.iterdir()):
        if name in (entry.name, entry.stem):
            return entry
    raise IdleSetting("data", config.data, f"the folder has no '{name}'", "put a copy there, or leave it out")


def build_judge(config: RunConfig, benchmark: Benchmark) -> Judge | None:
    """Return the judge that judge.base_url names; None without one, and for a benchmark that needs none."""
    if config.judge.base_url is None:
        return None
    # Checked in any case: a key in the address must not be recorded.
    judge = construct(Judge, vars(config.judge), "judge.")
    return None if benchmark.protocol is None else judge


def amount_name(method: Method) -> str:
    """Return the amount of pruning as in a directory's name, such as 0.9, keep64 or default."""
    if method.keep is not None:
        return f"keep{method.keep}"
    return "default" if method.ratio is None else f"{method.ratio:g}"


def benchmark_name(config: RunConfig, benchmark: Benchmark) -> str:
    """Return the name of the benchmark's choice, with that of its data where several data sets share the choice."""
    return "-".join(filter(None, [config.names["benchmark"], benchmark.data_name()]))


def model_name(config: RunConfig) -> str:
    """Return the name of the model's choice, or that of the folder for model=path."""
    if config.names["model"] == "path":
        return expand_path("model.path", str(config.model.path)).resolve().name
    return config.names["model"]
