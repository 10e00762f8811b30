"""One run, top to bottom."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vlmprune.config import RunConfig
from vlmprune.environment import describe_environment
from vlmprune.evaluate import answer_all
from vlmprune.loggers.base import Logger
from vlmprune.measure.memory import peak_mb, reset_peak
from vlmprune.measure.question import measure_questions
from vlmprune.models import loading
from vlmprune.plan import Plan, amount, model_name, prepare
from vlmprune.progress import progress_bar, say
from vlmprune.registry import DESCRIPTION, target_class, target_of
from vlmprune.report.result import summarise_answers
from vlmprune.report.summary import show_summary
from vlmprune.schema import construct


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
    title = f"{config.names['method']} {amount(plan.method)} on {config.names['benchmark']}"
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


def build_logger(config: RunConfig, directory: Path) -> Logger:
    """The experiment logger of the composed config, writing inside the run directory."""
    settings = {key: value for key, value in config.logger.items() if key not in DESCRIPTION}
    target = target_of(config.logger, f"logger={config.names['logger']}")
    logger = construct(target_class(target, Logger), settings, "logger.")
    logger.place(directory, Path(config.outputs))
    return logger


def to_yaml(data: dict[str, Any]) -> str:
    """Plain data as YAML."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(data))
