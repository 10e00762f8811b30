"""The execution of a sweep's jobs through a launcher, and the table at its end."""

from __future__ import annotations

import hashlib
import os
import shlex
from datetime import UTC, datetime
from pathlib import Path

from vlmprune.errors import UserError, stop_code
from vlmprune.evaluation.plan import Resources
from vlmprune.launchers.base import Launcher, Task, WorkerLauncher, check_runs, launch_tasks
from vlmprune.launchers.task import SHARED_VARIABLES, InProcess
from vlmprune.loggers.wandb_upload import directories_without_upload, sync_command
from vlmprune.results.sweep_record import FOLDER, JobRecord, SweepRecord
from vlmprune.results.tables import Column, Table
from vlmprune.results.text import NOT_JUDGED, format_percent
from vlmprune.sweep.inspection import check_jobs, model_key
from vlmprune.sweep.jobs import Job, SweepSettings
from vlmprune.sweep.progress import SweepProgress
from vlmprune.terminal import format_duration, say

STATES = {"done": "done", "skipped": "finished before", "waiting": "not run", "running": "running"}


def show_table(jobs: list[JobRecord], next_line: str) -> None:
    """Print the table, the command that uploads offline W&B runs if there are any, and `next_line`."""
    from vlmprune.terminal import print_result

    columns: list[Column[JobRecord]] = [
        Column("job", lambda job: job.title, left=True),
        Column("score", lambda job: format_percent(job.score, NOT_JUDGED) if job.status in ("done", "skipped") else ""),
        Column("time", lambda job: "" if job.seconds is None else format_duration(job.seconds)),
        Column("", final_state, left=True),
    ]
    print()
    Table("", columns, jobs).print_terminal()
    print()
    offline = sync_command(directories_without_upload(Path(job.directory) for job in jobs if job.directory is not None))
    if offline is not None:
        print_result(f"W&B    {offline}")
    print_result(f"next   {next_line}")


def final_state(job: JobRecord) -> str:
    """Return the final state of a job, with the reason if it failed or could not run."""
    if job.status == "failed":
        return f"FAILED  {job.reason}"
    if job.status == "not_applicable":
        return f"NOT APPLICABLE  {job.reason}"
    if job.status == "stopped":
        return "stopped" + (f" at {job.answered} of {job.samples} questions" if job.samples else "")
    return STATES[job.status]


def run_jobs(settings: list[str], jobs: list[Job], launcher: Launcher, split: SweepSettings) -> int:
    """Run `jobs`, which were planned from `settings` as typed; return the exit code."""
    stopped, resources = 0, Resources()
    jobs = check_jobs(jobs, launcher.here, resources, split.baselines)
    check_runs(launcher, [job.config for job in jobs if job.record.status == "waiting" and not job.finished])
    progress = start_progress(jobs, settings, split)
    here = launcher if isinstance(launcher, InProcess) else InProcess()
    here.set_plans({number: job.plan for number, job in enumerate(jobs, start=1) if job.plan is not None}, resources)
    try:
        finished, rest = make_tasks(jobs, progress)
        here.run(finished, progress)  # without a model; their answers may still need a judge
        if rest and not progress.halted:
            with progress.show_bar(workers=isinstance(launcher, WorkerLauncher)):
                launch_tasks(launcher, rest, progress)
    except KeyboardInterrupt as error:
        stopped = stop_code(error)
    finally:
        progress.mark_stopped()
    counts = progress.counts()
    own = [] if jobs[0].config.config_dir is None else ["--config-dir", jobs[0].config.config_dir]
    again = shlex.join(["vlmprune", "sweep", *own, *settings])
    left = counts["stopped"] + counts["waiting"]
    show_table(progress.record.jobs, f"{again}   (resumes)" if left else compare_command(progress.outputs))
    if stopped:
        say(f"stopped, and every answer is kept; the same command resumes: {again}")
        return stopped
    return 1 if counts["failed"] else 0


def start_progress(jobs: list[Job], settings: list[str], split: SweepSettings) -> SweepProgress:
    """Write the sweep's record and print its first lines. Raise UserError if the outputs folder cannot be written."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = SweepRecord(sweep_id(jobs), settings, split.launcher, now, now, [job.record for job in jobs])
    outputs = Path(jobs[0].config.outputs)
    try:
        (outputs / FOLDER / record.group).mkdir(parents=True, exist_ok=True)
        record.write(outputs)
    except OSError as error:
        raise UserError(f"outputs folder {outputs} cannot be used: {error}") from error
    progress = SweepProgress(jobs, record, outputs, split.fail_fast)
    say(count_line(jobs, f"launcher={split.launcher} · {outputs / FOLDER / record.group}.json"))
    for job in jobs:
        if job.record.status == "not_applicable":
            say(f"NOT APPLICABLE {job.title}: {job.record.reason}")
    return progress


def count_line(jobs: list[Job], rest: str) -> str:
    """Return a line such as '7 jobs: 4 new, 1 partly done, 2 finished · ' with `rest` after it."""
    able = [job for job in jobs if job.record.status == "waiting"]
    partly = sum(bool(job.record.answered) and not job.finished for job in able)
    finished = sum(job.finished for job in able)
    counts = {"new": len(able) - partly - finished, "partly done": partly, "finished": finished}
    counts["not applicable"] = len(jobs) - len(able)
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{len(jobs)} job{'s' if len(jobs) > 1 else ''}: {told} · {rest}"


def make_tasks(jobs: list[Job], progress: SweepProgress) -> tuple[list[Task], list[Task]]:
    """Return two lists of launcher tasks: those of finished jobs, and those of all other jobs that can run."""
    environment = {name: os.environ[name] for name in SHARED_VARIABLES if name in os.environ}
    group = progress.record.group
    finished, rest = list[Task](), list[Task]()
    for number, job in enumerate(jobs, start=1):
        if job.record.status != "waiting":
            continue
        job.record.log = f"{FOLDER}/{group}/{number:03d}.log"
        log = str((progress.outputs / job.record.log).absolute())
        where = (job.config.config_dir, group, os.getcwd(), model_key(job), log, environment)
        (finished if job.finished else rest).append(Task(number, job.overrides, *where))
    return finished, rest


def sweep_id(jobs: list[Job]) -> str:
    """Return the sweep's id. It depends on the set of jobs and not on their order."""
    combinations = sorted(" ".join(job.overrides) for job in jobs)
    return "sweep-" + hashlib.sha256("\n".join(combinations).encode()).hexdigest()[:8]


def compare_command(outputs: Path) -> str:
    """Return the command that shows the results."""
    return "vlmprune compare" + ("" if outputs == Path("outputs") else f" {shlex.quote(f'outputs={outputs}')}")
