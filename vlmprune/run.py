"""One run, from its plan to result.json, pictures, logger and summary."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from vlmprune.benchmarks.base import BadSample, Sample
from vlmprune.config.registry import DESCRIPTION, target_class, target_of
from vlmprune.config.settings import RunConfig
from vlmprune.config.typecheck import construct
from vlmprune.distributed.processes import process_count, team_of
from vlmprune.distributed.team import Team
from vlmprune.errors import UserError
from vlmprune.evaluation.evaluate import load_models, make_evaluation
from vlmprune.evaluation.latency_pass import measure_questions
from vlmprune.evaluation.plan import Plan, Resources, benchmark_name, model_name
from vlmprune.evaluation.result import recount_flops, sort_rows, summarise_answers
from vlmprune.evaluation.scores import RunningScore, record_scores
from vlmprune.loggers.base import Logger, guard_logger
from vlmprune.loggers.wandb_upload import Uploads
from vlmprune.measure.environment import describe_environment
from vlmprune.measure.memory import peak_mb, reset_peak
from vlmprune.models.loading import LoadedModel
from vlmprune.models.outline import WeightlessModel, build_weightless
from vlmprune.models.preprocessing import Preprocessor
from vlmprune.pictures.pages import save_pictures, title_of
from vlmprune.results.picture_index import FOLDER, INDEX
from vlmprune.results.summary import device_line, show_summary
from vlmprune.terminal import Phases, say

MAX_IDS = 20  # ids of broken samples in the result, at most; bad.jsonl has all of them


def run(plan: Plan, resources: Resources, group: str | None = None) -> dict[str, Any]:
    """Carry out a plan, or the rest of an interrupted run, and return its result. group: the sweep it belongs to."""
    config, finished = plan.config, plan.directory.result
    if finished is not None:
        return show_finished(plan, finished, group)

    logger = build_logger(config, plan.directory.path, resources.uploads)  # raises UserError before a file is written
    environment = describe_environment(plan.checkpoint.identity, plan.benchmark.identity(), plan.device, plan.dtype)
    environment["devices"] = process_count(config)
    environment["generation"] = {"used": plan.rules.used, "ignored": plan.rules.ignored}
    environment["decoding"] = plan.rules.effective
    environment["limits"] = plan.limits
    environment["model"] = {name: value for name, value in asdict(config.model).items() if name != "info"}
    with plan.directory.lock():
        finished = plan.directory.result  # another process may have finished it since
        if finished is not None:
            return show_finished(plan, finished, group)
        plan.directory.write_start(to_yaml(config.resolved), environment)
        logger.start(config.with_names | {"environment": environment}, plan.directory.fingerprint, group)
        try:
            result = evaluate_and_measure(plan, resources, environment, logger)
            write_submission(plan)
            plan.directory.finish(result)  # last, since a finished run is not run again
        except BaseException as error:
            logger.finish(1)
            if isinstance(error, UserError):
                plan.directory.discard()
            raise
    try:
        result = judge_result(plan, result)
    finally:  # answers are logged even if the judge fails
        logger.log_result(result, plan.directory.predictions())
        logger.finish(0)
    show_summary(result, plan.unpruned.result_or_none, plan.directory.path, logger.line)
    return result


def show_finished(plan: Plan, finished: dict[str, Any], group: str | None) -> dict[str, Any]:
    """Print the result of a finished run and return it, judged if it was not yet; draw its pictures if it has none.

    group: the sweep that it is part of, which prints itself that the run was finished.
    """
    if finished["bad_samples"]["count"] and plan.config.on_bad_sample == "fail":
        raise UserError(
            f"{plan.directory.path} left out {finished['bad_samples']['count']} broken samples: give "
            "on_bad_sample=skip, or repair them and delete it"
        )
    finished = recount_flops(plan, judge_result(plan, finished))
    if not (plan.directory.path / FOLDER / INDEX).exists():  # the disk was full, or show.samples was 0
        try:
            make_pictures(plan, build_weightless(plan.checkpoint, plan.config.model))
        except (UserError, BadSample) as error:  # the result is complete without them
            say(f"note: no pictures of kept tokens: {error}")
    if group is None:
        say(f"already finished, nothing was run, timed or logged again; delete it to start over: {plan.directory.path}")
    show_summary(finished, plan.unpruned.result_or_none, plan.directory.path, None)
    return finished


def judge_result(plan: Plan, result: dict[str, Any]) -> dict[str, Any]:
    """Return the result with its score, after asking the judge if one is given and the score is missing."""
    if plan.judge is None or result["answers"]["score"] is not None:
        return result
    with plan.directory.lock():
        record_scores(plan.directory, plan.directory.predictions(), result, plan.benchmark, plan.judge)
    return result


def write_submission(plan: Plan) -> None:
    """Write the file for the authors' evaluation server, if the benchmark has one, into the run directory."""
    file = plan.benchmark.submission_file(plan.directory.predictions())
    if file is not None:
        name, content = file
        plan.directory.write(name, content)


def evaluate_and_measure(
    plan: Plan, resources: Resources, environment: dict[str, Any], logger: Logger
) -> dict[str, Any]:
    """Answer the open samples, time a few questions, draw pictures, and return the content of result.json."""
    config, directory = plan.config, plan.directory
    environment = environment | {"attention": config.model.attention, "batch_size": config.batch_size}
    if (header := describe_run(plan, environment)) != resources.header:
        say(header)
        resources.header = header
    done = {row["id"] for row in [*directory.predictions(), *directory.bad()]}
    open_samples = [sample for sample in plan.samples if sample.id not in done]
    if done:
        say(f"resuming: {len(done)} of {len(plan.samples)} samples are answered already")

    if line := plan.rules.summary_line(plan.benchmark.max_new_tokens):
        say(line)
    phases = Phases(title_of(config.names["method"], plan.method))
    team = team_of(config) if open_samples else Team(1)
    with team.share_questions(plan, open_samples) as share:  # others, if any, load their models at the same time
        peak_since = reset_peak(plan.device)
        with phases.show("load"):
            loaded, text_tower = load_models(plan, resources)
        with phases.show("answers", len(plan.samples), len(done)) as advance:
            evaluation = make_evaluation(plan, loaded, text_tower, directory, team.watch(advance))
            running = RunningScore(logger.log_progress, directory.predictions())
            evaluation.answers.follow = running.add
            start = time.perf_counter()
            evaluation.run(share)
            seconds = max(0.0, time.perf_counter() - start)
            running.send()
            team.wait(advance)
    rows = sort_rows(directory.predictions(), plan.samples)
    bad = sort_rows(directory.bad(), plan.samples, "bad.jsonl leaves out")
    if both := {row["id"] for row in rows} & {row["id"] for row in bad}:
        raise UserError(f"bad.jsonl leaves out {min(both)!r}, which predictions.jsonl answers: remove one of the lines")
    if not rows:
        raise UserError(f"none of the {len(bad)} samples can be used; the first, {bad[0]['id']}: {bad[0]['reason']}")

    others = team.reports.values()  # before the timing pass, which runs the unpruned model too
    peak = max([peak_mb(plan.device), *(report["peak_mb"] for report in others)])
    seconds = max([seconds, *(report["seconds"] for report in others)])
    broken = {row["id"] for row in bad}
    clip = None if plan.text_tower is None else plan.text_tower.config
    usable = [sample for sample in plan.samples if sample.id not in broken]
    latency = cache = None
    if count := min(config.latency_samples, len(usable)):
        with phases.show("timing", count) as advance:
            latency, cache = measure_questions(usable, plan.benchmark, loaded, plan.method, count, text_tower, advance)
    if config.show.samples:
        with phases.show("pictures"):
            make_pictures(plan, loaded)
    say(phases.summary(rated="answers"))
    return {
        "schema": 1,
        "fingerprint": directory.fingerprint,
        "settings": config.arguments,
        "model": model_name(config),
        "method": config.names["method"],
        "benchmark": benchmark_name(config, plan.benchmark),
        "ratio": plan.method.ratio,
        "keep": plan.method.keep,
        "subset": {"limit": config.limit, "shard": config.shard, "seed": config.seed},
        "comparable": plan.comparable,
        "answers": summarise_answers(rows, plan.benchmark, loaded.adapter, plan.method, clip, config.flops.convention),
        "prompt_template": directory.prompt_template,
        "media": describe_media(usable, rows, loaded.preprocessor),
        "bad_samples": {"count": len(bad), "ids": sorted(broken)[:MAX_IDS]},
        "timings": {
            "latency": latency,
            "evaluation_s": seconds,
            "evaluation": evaluation.timings(),
            "samples_per_s": len(open_samples) / seconds if open_samples and seconds else None,
            "peak_memory_mb": peak,
            "peak_memory_since": peak_since,
            "kv_cache_bytes": cache,
        },
        "environment": environment,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def describe_run(plan: Plan, environment: dict[str, Any]) -> str:
    """Return a line with model, benchmark, questions and device of a run, and why it is on the CPU if that was not
    asked for."""
    config, why = plan.config, ""
    if config.device == "auto" and plan.device.type == "cpu":
        built = torch.backends.cuda.is_built()
        why = " (no GPU found)" if built else " (this torch has no CUDA)"
    parts = [
        f"{model_name(config)} on {benchmark_name(config, plan.benchmark)}",
        f"{len(plan.samples):,} questions",
        device_line(environment, why),
    ]
    return " · ".join(parts)


def make_pictures(plan: Plan, model: LoadedModel | WeightlessModel) -> None:
    """Save as many pictures of kept tokens as show.samples says. model: its weights are not used."""
    broken = {row["id"] for row in plan.directory.bad()}
    usable = [sample for sample in plan.samples if sample.id not in broken]
    title = title_of(plan.config.names["method"], plan.method)
    save_pictures(usable, plan.benchmark, model, plan.directory, title, plan.config.show.samples)


def describe_media(samples: list[Sample], rows: list[dict[str, Any]], prepare: Preprocessor) -> str:
    """Return a text on the media: images or frames, how the model gets the latter, and limits of pixels or tiles."""
    if all(sample.media == "image" for sample in samples):
        return ", ".join(filter(None, ["images", prepare.limits_text("image")]))
    given = "as a video" if prepare.takes_video else "as images"
    limits = prepare.limits_text("video" if prepare.takes_video else "image")
    frames = f"video: {max(row['images'] for row in rows)} frames per question, given {given}"
    return ", ".join(filter(None, [frames, limits]))


def build_logger(config: RunConfig, directory: Path, uploads: Uploads) -> Logger:
    """Return the experiment logger of the composed config, which writes inside the run directory."""
    settings = {key: value for key, value in config.logger.items() if key not in DESCRIPTION}
    target = target_of(config.logger, f"logger={config.names['logger']}")
    cls = target_class(target, Logger)

    def build() -> Logger:
        logger: Logger = construct(cls, settings, "logger.")
        logger.set_uploads(uploads)
        return logger

    logger = guard_logger(cls, build)
    logger.place(directory, Path(config.outputs))
    return logger


def to_yaml(data: dict[str, Any]) -> str:
    """Return plain data as YAML text."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(data))
