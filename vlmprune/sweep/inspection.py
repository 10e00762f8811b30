"""Checks before the first job: which runs are impossible, finished or partly done, the random pruning that each is
compared with, and the order of jobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from vlmprune.config.settings import RunConfig
from vlmprune.errors import NotApplicable, UserError
from vlmprune.evaluation.estimate import CostEstimate, NoUsableSample, estimate_cost
from vlmprune.evaluation.idle_settings import IdleSettings, check_idle
from vlmprune.evaluation.plan import Resources, benchmark_name, choose_parts, load_benchmark, make_plan
from vlmprune.results.comparison import same_token_count
from vlmprune.results.runs import count_lines
from vlmprune.results.summary import equal_ratio
from vlmprune.sweep.jobs import Job, random_job, shared_settings


def check_jobs(jobs: list[Job], here: bool, resources: Resources, baselines: bool = False) -> list[Job]:
    """Plan every job and check its run directory; return the jobs without duplicates, in execution order.

    A job whose method the model cannot run is marked not_applicable; a setting that cannot act in one job, and can in
    others, is left out of it. Raise UserError for any other fault, and if no requested job can run. here: True if the
    jobs run on this machine. Elsewhere the device may differ; dtype and run directory depend on it, and both then stay
    unknown. baselines: also return random pruning at the layer-averaged tokens of each job (`match_random`).
    """
    refused, left_out = list[UserError](), IdleSettings()

    def check(job: Job) -> None:
        try:
            drop_idle_settings(job, here, resources, IdleSettings() if job.is_added else left_out)
        except NotApplicable as error:
            job.record.status, job.record.reason = "not_applicable", error.reason
            refused.append(error)

    for job in jobs:
        check(job)
    if refused and all(job.record.status == "not_applicable" for job in jobs if not job.is_added):
        raise refused[0]
    left_out.print_removed(job.config for job in jobs if not job.is_added)
    if baselines:
        jobs = match_random(jobs, check, resources)
    first: dict[Path | str, Job] = {}
    for job in jobs:
        run = str(job.config.with_names) if job.plan is None else job.plan.directory.path
        first.setdefault(run, job)  # ratio=0.5,0.50 is one run
    return sort_jobs(list(first.values()))


def match_random(jobs: list[Job], check: Callable[[Job], None], resources: Resources) -> list[Job]:
    """Return `jobs` with random pruning at the layer-averaged tokens of each, which is what it is compared with.

    An added job of random pruning that keeps as many tokens as no other job is left out. Where a job's tokens are not
    known before it runs, the one by the same amount stays. check: plans a job. The order is kept, new jobs before those
    that were requested.
    """
    known: dict[int, CostEstimate | None] = {}

    def cost_of(job: Job) -> CostEstimate | None:
        if id(job) not in known:
            known[id(job)] = estimate_tokens(job, resources)
        return known[id(job)]

    able = [job for job in jobs if job.record.status == "waiting"]
    others: dict[tuple[str, ...], list[Job]] = {}  # random pruning by the settings that it shares
    for job in able:
        if job.record.method == "random":
            others.setdefault(tuple(shared_settings(job)), []).append(job)
    new, compared = list[Job](), set[int]()
    for job in able:
        if job.record.method in ("none", "random"):
            continue
        alike, cost = others.setdefault(tuple(shared_settings(job)), []), cost_of(job)
        if cost is None:
            compared |= {id(other) for other in alike}
        elif cost.kept:  # else it is blind: it sees no picture
            found = [other for other in alike if keeps_as_many(cost_of(other), cost)]
            if not found:
                found = [random_job(job, equal_ratio(cost.layer_averaged, cost.total))]
                check(found[0])
                new += found
                alike += found
            compared |= {id(other) for other in found}
    old = [job for job in jobs if job.is_added and (job.record.method != "random" or id(job) in compared)]
    return [*old, *new, *(job for job in jobs if not job.is_added)]


def estimate_tokens(job: Job, resources: Resources) -> CostEstimate | None:
    """Return the nominal cost of a job; None if its tokens depend on what is in the pictures, or are not known because
    the first questions have none, or none that can be used."""
    try:
        cost = estimate_cost(job.config, resources, job.plan)
    except NoUsableSample:  # said by the job itself
        return None
    return None if cost.at_most or not cost.total else cost


def keeps_as_many(ours: CostEstimate | None, theirs: CostEstimate) -> bool:
    """Return True if both process as many visual tokens in the mean over layers."""
    return ours is not None and same_token_count(ours.layer_averaged, theirs.layer_averaged)


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
