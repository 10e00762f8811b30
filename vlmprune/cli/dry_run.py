"""`--dry-run`: the jobs with their tokens, FLOPs and state. It loads no weights, runs nothing and writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlmprune.sweep.jobs import Job, build_launcher, plan_jobs, split_settings

if TYPE_CHECKING:
    from vlmprune.evaluation.plan import Resources


def dry_run_sweep(settings: list[str], config_dir: str | None) -> int:
    """Print the table of a sweep's jobs; return the exit code."""
    split = split_settings(settings, config_dir)
    jobs = plan_jobs(split.run_overrides, config_dir, split.baselines)
    launcher = build_launcher(split, config_dir)
    from vlmprune.evaluation.plan import Resources  # imports torch, which a typo need not wait for
    from vlmprune.launchers.base import check_runs
    from vlmprune.sweep.inspection import check_jobs

    resources = Resources()
    jobs = check_jobs(jobs, launcher.here, resources, split.baselines)
    check_runs(launcher, [job.config for job in jobs if job.record.status != "not_applicable"], dry=True)
    show_jobs(jobs, resources)
    print(f"launcher={split.launcher}")
    return 0


def dry_run(settings: list[str], config_dir: str | None) -> int:
    """Print the composed config of one run and its row; return the exit code."""
    from omegaconf import OmegaConf

    from vlmprune.evaluation.plan import Resources
    from vlmprune.sweep.inspection import fill_record

    (job,), resources = plan_jobs(settings, config_dir, baselines=False), Resources()
    fill_record(job, True, resources)
    print(OmegaConf.to_yaml(OmegaConf.create(job.config.resolved)))
    show_jobs([job], resources)
    print(f"files  {job.record.directory}")
    return 0


def show_jobs(jobs: list[Job], resources: Resources) -> None:
    """Print a table with one row per job, and a note on the nominal figures."""
    from vlmprune.results.tables import Column, Table, dropped_columns_line
    from vlmprune.terminal import print_prose

    rows = [(job, cost_of(job, resources)) for job in jobs]
    columns: list[Column[tuple[Job, tuple[str, ...]]]] = [
        Column("job", lambda row: row[0].title, left=True),
        Column("visual tokens", lambda row: row[1][0]),
        Column("layer avg", lambda row: row[1][1], droppable=3),
        Column("FLOPs", lambda row: row[1][2]),
        Column("of unpruned", lambda row: row[1][3], droppable=1),
        Column(
            "questions", lambda row: "" if row[0].record.samples is None else f"{row[0].record.samples:,}", droppable=2
        ),
        Column("", lambda row: planned_state(row[0]), left=True),
    ]
    gone = Table("", columns, rows).print_terminal()
    if gone:
        print()
        print_prose(dropped_columns_line(gone))
    print()
    print_prose(
        "per question, nominal: from the model's config and the benchmark's first questions, up to the first answer "
        "token; nothing was loaded, run or written"
    )


def cost_of(job: Job, resources: Resources) -> tuple[str, str, str, str]:
    """Return the cells for tokens, layer-averaged tokens, FLOPs and their share of unpruned; '' if it cannot run."""
    from vlmprune.evaluation.estimate import estimate_cost
    from vlmprune.results.text import format_flops

    if job.record.status == "not_applicable":
        return "", "", "", ""
    cost = estimate_cost(job.config, resources, job.plan)
    bound = "≤ " if cost.at_most else ""
    tokens = f"{bound}{cost.kept:.4g} of {cost.total:.4g}"
    if cost.flops is None or cost.unpruned_flops is None:
        return tokens, f"{bound}{cost.layer_averaged:.4g}", "-", "-"
    share = f"{bound}{cost.flops / cost.unpruned_flops:.0%}"
    return tokens, f"{bound}{cost.layer_averaged:.4g}", bound + format_flops(cost.flops), share


def planned_state(job: Job) -> str:
    """Return the state of a job's run: new, partly done, finished, unknown on this machine, or not applicable."""
    if job.record.status == "not_applicable":
        return f"NOT APPLICABLE  {job.record.reason}"
    if job.finished:
        return "finished"
    if job.record.directory is None:
        return "unknown here: depends on the device"
    return f"partly done: {job.record.answered} answered" if job.record.answered else "new"
