"""Record of a sweep, outputs/sweeps/GROUP.json, written whole at every change while it runs.

Results are in the run directories; this file adds the jobs that failed, could not run or were never reached, and the
reasons. It is for readers: a resumed sweep reads only the run directories.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, with_config

from vlmprune.errors import UserError, error_text
from vlmprune.files import to_json, write_atomically
from vlmprune.typed_json import STRICT, Amount, Count, Fraction, read_json

FOLDER = "sweeps"
PRINTED = r"^[^\x00]*$"  # no file's name has the character 0

Status = Literal["waiting", "running", "done", "skipped", "failed", "not_applicable", "stopped"]


@with_config(STRICT)
@dataclass
class JobRecord:
    """One job of a sweep."""

    title: Annotated[str, Field(pattern=PRINTED, description="what tells it from the other jobs")]
    overrides: Annotated[list[str], Field(description="the whole combination")]
    model: Annotated[str, Field(description="as requested")]
    method: Annotated[str, Field(description="as requested")]
    benchmark: Annotated[str, Field(description="as requested")]
    ratio: Annotated[Fraction | None, Field(description="as requested")]
    keep: Annotated[Count | None, Field(description="as requested")]
    status: Annotated[Status, Field(description="skipped: was finished before")] = "waiting"
    reason: Annotated[str, Field(description="of failed and not_applicable: one line; else empty")] = ""
    score: Annotated[Amount | None, Field(description="a fraction of 1; null where there is none")] = None
    answered: Annotated[
        Count | None, Field(description="questions answered when it was looked at last; null where unknown")
    ] = None
    samples: Annotated[Count | None, Field(description="of how many; null where unknown")] = None
    seconds: Annotated[Amount | None, Field(description="that it took in this sweep; null where it did not run")] = None
    directory: Annotated[
        Annotated[str, Field(pattern=PRINTED)] | None, Field(description="of the run; null where unknown")
    ] = None
    log: Annotated[
        str | None,
        Field(
            description="what the run printed, with the traceback of a failure; relative to outputs; null where it did "
            "not run"
        ),
    ] = None


@with_config(STRICT)
@dataclass
class SweepRecord:
    """One sweep, in the schema of its file."""

    group: Annotated[
        str,
        Field(description="the sweep's id, made of its jobs: W&B's group, and the name of this file and of its logs"),
    ]
    settings: Annotated[list[str], Field(description="as typed")]
    launcher: Annotated[str, Field(description="which one ran it")]
    started: Annotated[str, Field(description="UTC date and time")]
    updated: Annotated[str, Field(description="UTC date and time")]
    jobs: list[JobRecord]
    schema: Literal[1] = 1

    def write(self, outputs: Path) -> None:
        """Replace the file in one step. Raise OSError if that fails."""
        folder = outputs / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{self.group}.json", to_json(asdict(self)))


def read_sweep(file: Path) -> SweepRecord:
    """Return the sweep in `file`. Raise UserError if it is damaged or of another schema."""
    try:
        return read_json(file, SweepRecord)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} {_fault(error)}") from error


def _fault(error: OSError | ValueError) -> str:
    """Return what is wrong with a sweep's file, after its name."""
    return f"cannot be read ({error_text(error)}): delete it"


def jobs_without_result(outputs: Path) -> tuple[list[JobRecord], dict[Path, str]]:
    """Return jobs that failed or could not run, each from its last sweep, without those that were finished since.

    Second: files that cannot be read, with the reason.
    """
    sweeps: list[SweepRecord] = []
    damaged: dict[Path, str] = {}
    for file in sorted((outputs / FOLDER).glob("*.json")):
        try:
            sweeps.append(read_json(file, SweepRecord))
        except (OSError, ValueError) as error:
            damaged[file] = _fault(error)
    last: dict[tuple[str, ...], JobRecord] = {}
    for record in sorted(sweeps, key=lambda record: record.updated):
        last |= {tuple(sorted(job.overrides)): job for job in record.jobs}
    without = [job for job in last.values() if job.status in ("failed", "not_applicable")]
    return [job for job in without if not _finished(job, outputs)], damaged


def _finished(job: JobRecord, outputs: Path) -> bool:
    """Return True if the run directory of a job has a result now; a folder outside of `outputs` is not read."""
    if job.directory is None:
        return False
    folder, top = os.path.realpath(job.directory), os.path.realpath(outputs)
    return folder.startswith(top + os.sep) and os.path.exists(os.path.join(folder, "result.json"))
