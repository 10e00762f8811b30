"""Progress of a sweep: a line when a job starts or ends, a progress bar in a terminal, and the sweep's record file."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vlmprune.launchers.base import Outcome
from vlmprune.results.sweep_record import SweepRecord
from vlmprune.results.text import NOT_JUDGED, format_percent
from vlmprune.sweep.inspection import count_answered
from vlmprune.sweep.jobs import Job
from vlmprune.terminal import PLAIN, format_duration, say

WORDS = {"not_applicable": "not applicable", "skipped": "finished before", "waiting": "left"}
BAR_SECONDS = 1.0


class SweepProgress:
    """Progress of a sweep, updated by a launcher (vlmprune.launchers.base.Watch). Job numbers index `jobs` from 1."""

    def __init__(self, jobs: list[Job], record: SweepRecord, outputs: Path, fail_fast: bool) -> None:
        self.jobs, self.record, self.outputs, self.fail_fast = jobs, record, outputs, fail_fast
        self.halted = False
        self._most = 1  # jobs at the same time
        self._before = {id(job): job.record.answered or 0 for job in jobs}
        self._bar: Any = None
        self._warned, self._looked = False, 0.0

    def started(self, number: int) -> None:
        self._job(number).record.status = "running"
        self._most = max(self._most, self.counts()["running"])
        if not self._job(number).finished:
            self._say(number, "start ", "")
        self.save()

    def ended(self, number: int, outcome: Outcome) -> None:
        job, record = self._job(number), self._job(number).record
        record.status, record.reason, record.score = outcome.status, outcome.reason, outcome.score
        record.directory = outcome.directory or record.directory
        if outcome.status != "skipped":
            record.seconds = None if outcome.seconds is None else round(outcome.seconds, 3)
        self._update_answered(job)
        if outcome.status == "failed":
            self._say(number, "FAILED", f": {outcome.reason}")
            self._print(f"        log {self.outputs / (record.log or '')}")
            self.halted = self.fail_fast
        else:
            seconds = "" if record.seconds is None else f", {format_duration(record.seconds)}"
            self._say(number, "done  ", f"  {format_percent(record.score, NOT_JUDGED)}{seconds} · {self.status_line()}")
        self.save()

    def tick(self) -> None:
        if self._bar is None or time.monotonic() - self._looked < BAR_SECONDS:
            return
        self._looked = time.monotonic()
        for job in self.jobs:
            if job.record.status == "running":
                self._update_answered(job)
        done = sum(job.record.answered or 0 for job in self.jobs)
        self._bar.update(0, completed=done, description=self.status_line())

    def mark_stopped(self) -> None:
        """Mark all running jobs as stopped; the same sweep resumes them later."""
        for job in self.jobs:
            if job.record.status == "running":
                job.record.status = "stopped"
                self._update_answered(job)
        self.save()

    def save(self) -> None:
        """Write the record file. Print the first OSError as a warning and ignore all others: the runs continue."""
        self.record.updated = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            self.record.write(self.outputs)
        except OSError as error:
            if not self._warned:
                self._print(f"warning: the sweep's state cannot be written ({error}); the runs continue")
            self._warned = True

    def counts(self) -> Counter[str]:
        """Return the number of jobs of each status."""
        return Counter(job.record.status for job in self.jobs)

    def status_line(self) -> str:
        """Return a line such as '3 done, 1 failed, 1 running, 4 left, about 2 min'."""
        counts = self.counts()
        order = ("done", "skipped", "failed", "not_applicable", "stopped", "running", "waiting")
        parts = [f"{counts[name]} {WORDS.get(name, name)}" for name in order if counts[name]]
        left = self.time_left()
        return ", ".join(parts) + (f", about {format_duration(left)}" if left is not None else "")

    def time_left(self) -> float | None:
        """Return the seconds left by the mean time per question; None before a job is done and if none is left."""
        took = [(job.record.seconds, self._open(job)) for job in self.jobs if job.record.status == "done"]
        questions = sum(count for _, count in took)
        going = [job.record for job in self.jobs if job.record.status in ("running", "waiting")]
        left = sum((record.samples or 0) - (record.answered or 0) for record in going)
        if not questions or not left:
            return None
        return sum(seconds or 0 for seconds, _ in took) / questions * left / self._most

    @contextmanager
    def show_bar(self, workers: bool) -> Iterator[None]:
        """Show a progress bar over all questions inside the block, if jobs run in workers and stderr is a terminal."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        console = Console(stderr=True, **PLAIN)
        if not (workers and console.is_terminal):
            yield
            return
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("questions · {task.description}", markup=False))
        with Progress(*columns, console=console) as self._bar:
            self._bar.add_task("", total=sum(job.record.samples or 0 for job in self.jobs))
            try:
                yield
            finally:
                self._looked = 0.0
                self.tick()
                self._bar.stop()
                self._bar = None

    def _job(self, number: int) -> Job:
        return self.jobs[number - 1]

    def _update_answered(self, job: Job) -> None:
        if job.record.directory is not None:
            job.record.answered = count_answered(Path(job.record.directory))

    def _open(self, job: Job) -> int:
        """Return the number of a job's questions that were unanswered when the sweep began."""
        return max(0, (job.record.samples or 0) - self._before[id(job)])

    def _say(self, number: int, word: str, rest: str) -> None:
        self._print(f"[{number}/{len(self.jobs)}] {word} {self._job(number).title}{rest}")

    def _print(self, line: str) -> None:
        if self._bar is None:
            say(line)
        else:
            self._bar.console.print(line, soft_wrap=True)
