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
from vlmprune.fingerprint import code_identity, method_identity, sha256
from vlmprune.loggers.base import Logger
from vlmprune.measure.memory import peak_mb, reset_peak
from vlmprune.measure.question import measure_questions
from vlmprune.methods.base import Method
from vlmprune.methods.none import Unpruned
from vlmprune.models import loading
from vlmprune.models.base import check_pair, check_settings, describe
from vlmprune.progress import progress_bar, say
from vlmprune.records import RunDirectory
from vlmprune.registry import DESCRIPTION, build_method, construct, target_class, target_of
from vlmprune.report.result import summarise_answers
from vlmprune.report.summary import show_summary

LOCATION = ("path", "fallback")  # where a benchmark's data lies; what counts is the data's own identity
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
        return show_again(plan, finished)

    environment = describe_environment(plan.checkpoint.identity, plan.benchmark.identity(), plan.device, plan.dtype)
    with plan.directory.lock():
        finished = plan.directory.result  # another process may have finished it since
        if finished is not None:
            return show_again(plan, finished)
        plan.directory.begin(to_yaml(config.resolved), environment)
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
    show_summary(result, plan.unpruned.result_or_none, plan.directory.path, logger.line, config.overrides)
    return result


def show_again(plan: Plan, finished: dict[str, Any]) -> dict[str, Any]:
    """A finished run is printed; nothing of it is evaluated, measured or logged again."""
    say(f"already finished, nothing was run, timed or logged again; delete it to start over: {plan.directory.path}")
    show_summary(finished, plan.unpruned.result_or_none, plan.directory.path, None, plan.config.overrides)
    return finished


def prepare(config: RunConfig) -> Plan:
    """Resolve names to things and refuse what cannot work, before any weight is loaded."""
    method = build_method(config.names["method"], ratio=config.ratio, keep=config.keep, config=config.method)
    checkpoint = loading.find_checkpoint(config.model)
    family = describe(checkpoint.config)
    check_pair(family, method, config.names["method"], model_name(config))
    check_settings(method, family, checkpoint.config.text_config.num_hidden_layers, config.names["method"])
    device = loading.resolve_device(config.device)
    dtype = loading.resolve_dtype(config.model.dtype, checkpoint, device)

    benchmark = build_benchmark(config)
    everything = benchmark.load()
    samples = subset(everything, config.limit)
    identity: dict[str, Any] = {
        "checkpoint": checkpoint.identity,
        "model": {key: value for key, value in asdict(config.model).items() if key in PROMPTING},
        "benchmark": {key: value for key, value in config.benchmark.items() if key not in (*DESCRIPTION, *LOCATION)},
        "benchmark_code": code_identity(type(benchmark)),
        "data": benchmark.identity(),
        "subset": "all" if len(samples) == len(everything) else f"limit={config.limit}",
        "dtype": str(dtype).removeprefix("torch."),
    }
    if dtype != torch.float32:  # kernels of another batch shape round differently in half precision
        identity["batch_size"] = config.batch_size
    comparable = {
        "benchmark": sha256([identity[key] for key in ("benchmark", "benchmark_code", "data")])[:16],
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
    loaded = loading.load(plan.checkpoint, config.model, plan.dtype, plan.device)
    done = {row["id"] for row in directory.predictions()}
    open_samples = [sample for sample in plan.samples if sample.id not in done]
    if done:
        say(f"resuming: {len(done)} of {len(plan.samples)} samples are answered already")

    start = time.perf_counter()
    title = f"{config.names['method']} {amount(config)} on {config.names['benchmark']}"
    with progress_bar(title, len(plan.samples), len(done)) as advance:
        answer_all(open_samples, plan.benchmark, loaded, plan.method, config.batch_size, directory, advance)
    seconds = time.perf_counter() - start

    peak = peak_mb(plan.device)  # before the timing pass, which runs the unpruned model too
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
            "peak_memory_mb": peak,
            "kv_cache_bytes": cache,
        },
        "environment": environment | {"attention": config.model.attention, "batch_size": config.batch_size},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def build_benchmark(config: RunConfig) -> Benchmark:
    """The benchmark object of the composed config."""
    settings = {key: value for key, value in config.benchmark.items() if key not in DESCRIPTION}
    target = target_of(config.benchmark, f"benchmark={config.names['benchmark']}")
    return construct(target_class(target, Benchmark), settings, "benchmark.")


def build_logger(config: RunConfig, directory: Path) -> Logger:
    """The experiment logger of the composed config, writing inside the run directory."""
    settings = {key: value for key, value in config.logger.items() if key not in DESCRIPTION}
    target = target_of(config.logger, f"logger={config.names['logger']}")
    logger = construct(target_class(target, Logger), settings, "logger.")
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
        return Path(str(config.model.path)).expanduser().resolve().name
    return config.names["model"]


def to_yaml(data: dict[str, Any]) -> str:
    """Plain data as YAML."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(data))
