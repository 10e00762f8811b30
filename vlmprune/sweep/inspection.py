"""Checks before the first job: which runs are impossible, finished or partly done, and in which order jobs run."""

from __future__ import annotations

from pathlib import Path

import torch

from vlmprune.config.settings import RunConfig
from vlmprune.errors import NotApplicable, UserError
from vlmprune.evaluation.idle_settings import IdleSettings, check_idle
from vlmprune.evaluation.plan import Resources, benchmark_name, choose_parts, load_benchmark, make_plan
from vlmprune.results.runs import count_lines
from vlmprune.sweep.jobs import Job


def check_jobs(jobs: list[Job], here: bool, resources: Resources) -> list[Job]:
    """Plan every job and check its run directory; return the jobs without duplicates, in execution order.

    A job whose method the model cannot run is marked not_applicable; a setting that cannot act in one job, and can in
    others, is left out of it. Raise UserError for any other fault, and if no requested job can run. here: True if the
    jobs run on this machine. Elsewhere the device may differ; dtype and run directory depend on it, and both then stay
    unknown.
    """
    first: dict[Path | str, Job] = {}
    unique, refused, left_out = [], list[UserError](), IdleSettings()
    for job in jobs:
        try:
            drop_idle_settings(job, here, resources, IdleSettings() if job.is_added else left_out)
        except NotApplicable as error:
            job.record.status, job.record.reason = "not_applicable", error.reason
            refused.append(error)
        run = str(job.config.with_names) if job.plan is None else job.plan.directory.path
        if first.setdefault(run, job) is job:  # ratio=0.5,0.50 is one run
            unique.append(job)
    if refused and all(job.record.status == "not_applicable" for job in unique if not job.is_added):
        raise refused[0]
    left_out.print_removed(job.config for job in jobs if not job.is_added)
    return sort_jobs(unique)


def drop_idle_settings(job: Job, here: bool, resources: Resources, left_out: IdleSettings) -> None:
    """Leave out of the job the settings that cannot act in it, and `fill_record`."""

    def fill(config: RunConfig) -> None:
        job.replace_config(config)
        fill_record(job, here, resources)

    left_out.find_runnable(job.config, fill)


def fill_record(job: Job, here: bool, resources: Resources) -> None:
    """Plan the job's run, unless the plan depends on another machine, and fill in the record."""
    config, record = job.config, job.record
    if not (here or config.device == "cpu" or torch.cuda.is_available()):
        method, checkpoint, _ = choose_parts(config)
        benchmark, everything, samples = load_benchmark(config, resources)
        check_idle(config, method, checkpoint, benchmark, everything)
        record.benchmark = benchmark_name(config, benchmark)
        record.samples = len(samples)
        return
    plan = job.plan = make_plan(config, resources)
    record.benchmark = benchmark_name(config, plan.benchmark)
    record.samples, record.directory = len(plan.samples), str(plan.directory.path)
    record.answered = count_answered(plan.directory.path)
    job.finished = plan.directory.result_or_none is not None  # the job itself reports a damaged result


def count_answered(directory: Path) -> int:
    """Return the number of answered or bad samples of a run, which may be running: this only reads."""
    return count_lines(directory, "predictions.jsonl", "bad.jsonl")


def sort_jobs(jobs: list[Job]) -> list[Job]:
    """Return jobs grouped by model and then by benchmark, so that each loads once; otherwise in the given order."""
    models = list(dict.fromkeys(model_key(job) for job in jobs))
    benchmarks = list(dict.fromkeys(job.record.benchmark for job in jobs))
    return sorted(jobs, key=lambda job: (models.index(model_key(job)), benchmarks.index(job.record.benchmark)))


def model_key(job: Job) -> str:
    """Return a key that is equal for jobs that can share one loaded model."""
    return f"{job.config.model!r} {job.config.device}"
