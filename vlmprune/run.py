"""One run, top to bottom."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from vlmprune.benchmarks.base import Benchmark, Sample, subset
from vlmprune.config import RunConfig
from vlmprune.environment import describe_environment
from vlmprune.evaluate import answer_all
from vlmprune.fingerprint import method_identity, sha256
from vlmprune.loggers.base import Logger
from vlmprune.measure.memory import peak_mb, reset_peak
from vlmprune.measure.question import measure_questions
from vlmprune.methods.base import Method
from vlmprune.methods.none import Unpruned
from vlmprune.models import loading
from vlmprune.models.base import check_pair, check_schedule, describe
from vlmprune.progress import progress_bar, say
from vlmprune.records import RunDirectory
from vlmprune.registry import DESCRIPTION, build_method, construct, target_class
from vlmprune.report.result import summarise_answers
from vlmprune.report.summary import show_summary

PROMPTING = ("attention", "prompt", "image")  # model settings that can change an answer, beside the checkpoint


@dataclass
class Plan:
    """A run that can work: everything resolved and checked, no weight loaded."""

    config: RunConfig
    method: Method
    checkpoint: loading.Checkpoint
    benchmark: Benchmark
    samples: list[Sample]
    device: torch.device
    dtype: torch.dtype
    directory: RunDirectory
    unpruned: RunDirectory  # of the same model, benchmark and subset; what a relative score is relative to
    comparable: dict[str, str]


def run(config: RunConfig, group: str | None = None) -> dict[str, Any]:
    """Do one run, or what is left of it, and return its result. `group` names the sweep that it belongs to."""
    plan = prepare(config)
    finished = plan.directory.result
    if finished is not None:
        say(f"already finished: {plan.directory.path}")
        show_summary(finished, plan.unpruned.result, plan.directory.path, None)
        return finished

    environment = describe_environment(plan.checkpoint.identity, plan.benchmark.identity(), plan.device, plan.dtype)
    plan.directory.open(to_yaml(config.resolved), environment | {"fingerprint": plan.directory.fingerprint})
    with plan.directory.lock():
        logger = build_logger(config, plan.directory.path)
        logger.start(config.resolved, plan.directory.fingerprint, group)
        try:
            result = evaluate_and_measure(plan, environment)
        except BaseException:
            logger.finish(1)
            raise
        plan.directory.finish(result)
        logger.log_result(result, plan.directory.predictions())
        logger.finish(0)
    show_summary(result, plan.unpruned.result, plan.directory.path, logger.line)
    return result


def prepare(config: RunConfig) -> Plan:
    """Resolve names to things and refuse what cannot work, before any weight is loaded."""
    method = build_method(config.names["method"], ratio=config.ratio, keep=config.keep, config=config.method)
    checkpoint = loading.find_checkpoint(config.model)
    family = describe(checkpoint.config)
    check_pair(family.signals, method.needs, config.names["method"], model_name(config))
    check_schedule(method, checkpoint.config.text_config.num_hidden_layers)
    device = loading.resolve_device(config.device)
    dtype = loading.resolve_dtype(config.model.dtype, checkpoint, device)

    benchmark = build_benchmark(config)
    samples = subset(benchmark.load(), config.limit, config.seed)
    identity: dict[str, Any] = {
        "checkpoint": checkpoint.identity,
        "model": {key: value for key, value in asdict(config.model).items() if key in PROMPTING},
        "benchmark": {key: value for key, value in config.benchmark.items() if key not in DESCRIPTION},
        "data": benchmark.identity(),
        "subset": "all" if config.limit is None else f"limit={config.limit},seed={config.seed}",
        "dtype": str(dtype).removeprefix("torch."),
    }
    if dtype != torch.float32:  # kernels of another batch shape round differently in half precision
        identity["batch_size"] = config.batch_size
    comparable = {
        "benchmark": sha256([identity["benchmark"], identity["data"]])[:16],
        "subset": identity["subset"],
        "prompt": sha256([config.model.prompt, config.model.image, identity["benchmark"].get("suffix")])[:16],
        "model": sha256(identity["checkpoint"])[:16],
        "dtype": identity["dtype"],
    }
    folder = Path(config.outputs) / config.names["benchmark"] / model_name(config)
    directory = run_directory(folder, f"{config.names['method']}-{amount(config)}", identity, method)
    unpruned = run_directory(folder, "none-default", identity, Unpruned())
    return Plan(config, method, checkpoint, benchmark, samples, device, dtype, directory, unpruned, comparable)


def run_directory(folder: Path, name: str, identity: dict[str, Any], method: Method) -> RunDirectory:
    """The directory of a run, named by the fingerprint of all that can change its answers."""
    fingerprint = sha256(identity | method_identity(method))
    return RunDirectory(folder / f"{name}-{fingerprint[:12]}", fingerprint)


def evaluate_and_measure(plan: Plan, environment: dict[str, Any]) -> dict[str, Any]:
    """Answer what is not answered yet, time a few questions, and put result.json together."""
    config, directory = plan.config, plan.directory
    reset_peak(plan.device)
    loaded = loading.load(
        plan.checkpoint.source, plan.dtype, config.model.attention, plan.device, config.model.prompt, config.model.image
    )
    done = {row["id"] for row in directory.predictions()}
    open_samples = [sample for sample in plan.samples if sample.id not in done]
    if done:
        say(f"resuming: {len(done)} of {len(plan.samples)} samples are answered already")

    start = time.perf_counter()
    title = f"{config.names['method']} {amount(config)} on {config.names['benchmark']}"
    with progress_bar(title, len(plan.samples), len(done)) as advance:
        answer_all(open_samples, plan.benchmark, loaded, plan.method, config.batch_size, directory, advance)
    seconds = time.perf_counter() - start

    latency, cache = measure_questions(plan.samples, plan.benchmark, loaded, plan.method, config.latency_samples)
    rows = directory.predictions()
    return {
        "schema": 1,
        "fingerprint": directory.fingerprint,
        "model": model_name(config),
        "method": config.names["method"],
        "benchmark": config.names["benchmark"],
        "ratio": plan.method.ratio,
        "keep": plan.method.keep,
        "subset": {"limit": config.limit, "seed": config.seed},
        "comparable": plan.comparable,
        "answers": summarise_answers(rows, plan.benchmark.metric, plan.checkpoint.config, loaded.adapter, plan.method),
        "timings": {
            "latency": latency,
            "evaluation_s": seconds,
            "samples_per_s": len(open_samples) / seconds if open_samples else None,
            "peak_memory_mb": peak_mb(plan.device),
            "kv_cache_bytes": cache,
        },
        "environment": environment | {"attention": config.model.attention, "batch_size": config.batch_size},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def build_benchmark(config: RunConfig) -> Benchmark:
    """The benchmark object of the composed config."""
    settings = {key: value for key, value in config.benchmark.items() if key not in DESCRIPTION}
    return construct(target_class(config.benchmark["_target_"], Benchmark), settings, "benchmark.")


def build_logger(config: RunConfig, directory: Path) -> Logger:
    """The experiment logger of the composed config, writing inside the run directory."""
    settings = {key: value for key, value in config.logger.items() if key not in DESCRIPTION}
    logger = construct(target_class(config.logger["_target_"], Logger), settings, "logger.")
    logger.place(directory, Path(config.outputs))
    return logger


def amount(config: RunConfig) -> str:
    """How much is pruned, as it stands in a directory's name."""
    if config.keep is not None:
        return f"keep{config.keep}"
    return "default" if config.ratio is None else f"{config.ratio:g}"


def model_name(config: RunConfig) -> str:
    """The model's choice, or the folder's name for model=path."""
    if config.names["model"] == "path":
        return Path(str(config.model.path)).name
    return config.names["model"]


def to_yaml(data: dict[str, Any]) -> str:
    """Plain data as YAML."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(data))
