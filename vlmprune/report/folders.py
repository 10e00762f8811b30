"""Which finished runs lie under some folders, and which of them may be compared."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from vlmprune.report.runs import Run, read_run
from vlmprune.sweep_record import jobs_without_result

REFERENCE = "reference"  # committed results of another machine: read when named, not mixed into one's own
RUN_FILES = {"result.json", "config.yaml"}


def find_runs(folders: Iterable[Path]) -> tuple[list[Run], list[tuple[Path, str]]]:
    """All finished runs under `folders`, and (directory, why not) of the others. A folder may be a run itself.

    Jobs of a sweep that failed or that the model cannot run are among the others. Raises UserError where the record of
    a sweep is damaged.
    """
    folders = list(folders)
    runs, others = [], []
    directories = {path.resolve(): path for folder in folders for path in _run_directories(folder)}
    for path in sorted(directories.values()):
        found = read_run(path)
        if isinstance(found, Run):
            runs.append(found)
        else:
            others.append((path, found))
    told = {path.resolve(): (path, why) for path, why in _unfinished_jobs(folders)}
    others = [(path, told.pop(path.resolve(), (path, why))[1]) for path, why in others]
    return runs, others + sorted(told.values())


def _unfinished_jobs(folders: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """(directory, or what tells the job apart; FAILED or NOT APPLICABLE and why) of sweeps' jobs without a result."""
    for outputs in folders:
        for job in jobs_without_result(outputs):
            path = Path(job.directory or job.title)
            yield path, f"{job.status.replace('_', ' ').upper()} {job.reason}"


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run, finished or not."""
    return any((folder / name).exists() for name in RUN_FILES)


def _run_directories(folder: Path) -> list[Path]:
    found = []
    for root, folders, files in os.walk(folder):
        if not RUN_FILES.isdisjoint(files):
            found.append(Path(root))
            folders.clear()  # W&B's own files are below
        elif Path(root) == folder and REFERENCE in folders:
            folders.remove(REFERENCE)
    return found


def group_runs(runs: list[Run]) -> list[list[Run]]:
    """Runs that may be compared, together: unpruned first, then by method and by how much is removed."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.key, not run.unpruned, run.method, run.reduction, str(run.path))):
        groups.setdefault(run.key, []).append(run)
    return list(groups.values())
