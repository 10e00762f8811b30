"""The table at the end of a sweep: a row per job with its score, time and state, and the next command."""

from __future__ import annotations

from pathlib import Path

from vlmprune.loggers.upload import left_offline, sync_command
from vlmprune.sweep.board import duration, score_text
from vlmprune.sweep_record import JobRecord

STATES = {"done": "done", "skipped": "finished before", "waiting": "not run", "running": "running"}


def show_table(jobs: list[JobRecord], next_line: str) -> None:
    """Print the table, the command that uploads offline W&B runs if there are any, and `next_line`."""
    from vlmprune.progress import results_console
    from vlmprune.report.grid import Grid

    rows = []
    for job in jobs:
        score = score_text(job.score) if job.status in ("done", "skipped") else ""
        seconds = "" if job.seconds is None else duration(job.seconds)
        rows.append([job.title, score, seconds, state_of(job)])
    print()
    Grid("", ["job", "score", "time", ""], rows, left={"job", ""}, fold={"job", ""}).print_terminal()
    print()
    console = results_console()
    offline = sync_command(left_offline(Path(job.directory) for job in jobs if job.directory is not None))
    if offline is not None:
        console.print(f"W&B    {offline}", soft_wrap=True)
    console.print(f"next   {next_line}", soft_wrap=True)


def state_of(job: JobRecord) -> str:
    """Return the final state of a job, with the reason if it failed or could not run."""
    if job.status == "failed":
        return f"FAILED  {job.reason}"
    if job.status == "not_applicable":
        return f"NOT APPLICABLE  {job.reason}"
    if job.status == "stopped":
        return "stopped" + (f" at {job.answered} of {job.samples} questions" if job.samples else "")
    return STATES[job.status]
