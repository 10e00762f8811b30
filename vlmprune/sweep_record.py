"""What is known of a sweep while it runs and afterwards: outputs/sweeps/GROUP.json, written whole at every change.

Results are in the run directories; this file has what those cannot have: jobs that failed, could not run or were never
reached, and why. It is for readers. A sweep that goes on looks at the run directories alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from vlmprune.errors import UserError
from vlmprune.records import to_json, write_atomically

FOLDER = "sweeps"
SWEEP_SCHEMA = {
    "schema": "1",
    "group": "the sweep's id, made of its jobs: W&B's group, and the name of this file and of the folder of logs",
    "settings": "as typed",
    "launcher": "which one ran it",
    "started, updated": "UTC date and time",
    "jobs": {
        "title, overrides": "what tells it from the other jobs; the whole combination",
        "model, method, benchmark, ratio, keep": "what was asked for",
        "status": "waiting, running, done, skipped (was finished before), failed, not_applicable or stopped",
        "reason": "of failed and not_applicable: one line; else empty",
        "score": "a fraction of 1; null where there is none",
        "answered, samples": "questions answered when it was looked at last, and of how many; null where unknown",
        "seconds": "that it took in this sweep; null where it did not run",
        "directory": "of the run; null where unknown",
        "log": "what the run printed, with the traceback of a failure; relative to outputs; null where it did not run",
    },
}

Status = Literal["waiting", "running", "done", "skipped", "failed", "not_applicable", "stopped"]


@dataclass
class JobRecord:
    """One job of a sweep; fields as in SWEEP_SCHEMA."""

    title: str
    overrides: list[str]
    model: str
    method: str
    benchmark: str
    ratio: float | None
    keep: int | None
    status: Status = "waiting"
    reason: str = ""
    score: float | None = None
    answered: int | None = None
    samples: int | None = None
    seconds: float | None = None
    directory: str | None = None
    log: str | None = None


@dataclass
class SweepRecord:
    """One sweep; fields as in SWEEP_SCHEMA."""

    group: str
    settings: list[str]
    launcher: str
    started: str
    updated: str
    jobs: list[JobRecord]
    schema: int = 1

    def write(self, outputs: Path) -> None:
        """Replace the file in one step. Raises OSError."""
        folder = outputs / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{self.group}.json", to_json(asdict(self)))


def read_sweep(file: Path) -> SweepRecord:
    """The sweep in `file`. Raises UserError where it is damaged or of another schema."""
    try:
        data: dict[str, Any] = json.loads(file.read_text())
        if data["schema"] != 1:
            raise ValueError(f"schema {data['schema']}; this version reads 1")
        jobs = [JobRecord(**job) for job in data["jobs"]]
        return SweepRecord(**data | {"jobs": jobs})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} cannot be read ({' '.join(str(error).split())}): delete it") from error


def jobs_without_result(outputs: Path) -> list[JobRecord]:
    """Jobs of sweeps that failed or could not run, each as its last sweep left it; none whose run was finished since.

    Raises UserError where a file is damaged.
    """
    sweeps = [read_sweep(file) for file in sorted((outputs / FOLDER).glob("*.json"))]
    last: dict[tuple[str, ...], JobRecord] = {}
    for record in sorted(sweeps, key=lambda record: record.updated):
        last |= {tuple(sorted(job.overrides)): job for job in record.jobs}
    return [
        job
        for job in last.values()
        if job.status in ("failed", "not_applicable")
        and not (job.directory is not None and (Path(job.directory) / "result.json").exists())
    ]
