"""Search for finished runs under folders, their groups that may be compared, and their labels."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmprune.results.runs import Run, read_run
from vlmprune.results.sweep_record import jobs_without_result
from vlmprune.results.text import terminal_line

SEED = "seed"  # the setting whose values are repetitions of one measurement
BUDGET_SETTINGS = (
    "positions",
    "scope",
    "budget",
)  # settings of the run that change the kept tokens, beside the method's


def label_runs(runs: list[Run]) -> dict[Path, str]:
    """Return the label of each run, by directory: its method, with its `distinct_settings`."""
    settings = distinct_settings(runs)
    return {run.path: make_label(run.method, settings[run.path]) for run in runs}


def make_label(method: str, settings: dict[str, str]) -> str:
    """Return the label of runs of `method` that these settings tell from others: 'fastv k=3'."""
    return " ".join([method, *(f"{name}={value}" for name, value in settings.items())])


def distinct_settings(runs: list[Run]) -> dict[Path, dict[str, str]]:
    """Return, by directory, the settings of each run in which runs of its method differ; not the seed, whose values
    are one row, except for runs that are alike and no one row."""
    differing = differing_settings(runs)
    found = {run.path: _settings_text(run, differing[run.method]) for run in runs}
    rows = [(make_label(run.method, found[run.path]), run.amount, len(seeds), run) for run, *seeds in group_seeds(runs)]
    times = Counter((label, amount) for label, amount, _, _ in rows)
    for label, amount, more, run in rows:
        if times[label, amount] > 1 and not more:
            found[run.path] |= _settings_text(run, [SEED])
    return found


def _settings_text(run: Run, names: list[str]) -> dict[str, str]:
    settings = method_settings(run)
    return {terminal_line(name): terminal_line(str(settings[name])) for name in names if name in settings}


def differing_settings(runs: list[Run]) -> dict[str, list[str]]:
    """Return for each method the names of the settings, but for the seed, in which its runs differ, sorted."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        by_method.setdefault(run.method, []).append(method_settings(run))
    return {method: [name for name in _differing(each) if name != SEED] for method, each in by_method.items()}


def group_seeds(runs: list[Run]) -> list[list[Run]]:
    """Group runs of one table that differ in the seed alone, each group sorted by seed, at the place of its first run.

    Alone are runs whose settings cannot be read, and all runs of a setting of which one seed was run twice: their means
    would mix what differs otherwise, such as versions of a method's code.
    """
    alike: dict[str, list[Run]] = {}
    for run in runs:
        alike.setdefault(_apart_from_seed(run), []).append(run)
    groups: list[list[Run]] = []
    for each in alike.values():
        seeds = {repr(method_settings(run).get(SEED)) for run in each}
        groups += [sorted(each, key=_seed_order)] if len(seeds) == len(each) else [[run] for run in each]
    return groups


def _apart_from_seed(run: Run) -> str:
    """Return a text that is equal for judged runs of one method, amount and settings over as many questions."""
    settings = method_settings(run)
    same = sorted(f"{name}={value!r}" for name, value in settings.items() if name != SEED)
    kind = (run.method, run.ratio, run.keep, run.samples, run.score is None)
    return repr((*kind, same if settings else str(run.path)))


def _seed_order(run: Run) -> Any:
    return _natural(str(method_settings(run).get(SEED)))


def method_settings(run: Run) -> dict[str, Any]:
    """Return the settings of the run's method and of BUDGET_SETTINGS from config.yaml; {} if it cannot be read."""
    method = run.config.get("method")
    own = method if isinstance(method, dict) else {}
    settings = {key: value for key, value in own.items() if key not in ("_target_", "info")}
    return settings | {key: run.config[key] for key in BUDGET_SETTINGS if key in run.config}


def _differing(settings: list[dict[str, Any]]) -> list[str]:
    """Return the keys whose values are not the same in all `settings`."""
    keys = sorted({str(key) for each in settings for key in each})
    return [key for key in keys if len({repr(each.get(key)) for each in settings}) > 1]


RUN_FILES = {"result.json", "config.yaml"}


@dataclass(frozen=True)
class UnfinishedRun:
    """A run directory, job or file that is no finished run. path: the directory or file, or a job's title; values: its
    known values by filter name."""

    path: Path
    why: str
    values: dict[str, Any]


def find_runs(folders: Iterable[Path]) -> tuple[list[Run], list[UnfinishedRun]]:
    """Return all finished runs at or below `folders`, and everything there that is no finished run.

    The latter includes jobs of sweeps that failed or are not applicable, and folders and sweep records that cannot be
    read.
    """
    folders = list(folders)
    runs, others = list[Run](), list[UnfinishedRun]()
    directories = {os.path.realpath(path): path for folder in folders for path in _run_directories(folder, others)}
    for path in sorted(directories.values()):
        found = read_run(path)
        if isinstance(found, Run):
            runs.append(found)
        else:
            others.append(UnfinishedRun(path, found, _values_in_name(path)))
    told = {Path(os.path.realpath(job.path)): job for job in _unfinished_jobs(folders)}
    others = [told.pop(Path(os.path.realpath(other.path)), other) for other in others]
    return runs, others + sorted(told.values(), key=lambda job: job.path)


def _values_in_name(path: Path) -> dict[str, Any]:
    """Return the values in a run directory's name: outputs/<benchmark>/<model>/<method>-<ratio>-<fingerprint>."""
    *_, benchmark, model, name = ("", "", *path.absolute().parts)
    return {"benchmark": benchmark, "model": model, "method": name.rsplit("-", 2)[0]}


def _unfinished_jobs(folders: Iterable[Path]) -> Iterator[UnfinishedRun]:
    """Yield the failed or not applicable jobs of sweeps with their reason, and the damaged records of sweeps."""
    for outputs in folders:
        jobs, damaged = jobs_without_result(outputs)
        yield from (UnfinishedRun(file, why, {}) for file, why in damaged.items())
        for job in jobs:
            values = {key: getattr(job, key) for key in ("benchmark", "model", "method", "ratio", "keep")}
            why = f"{job.status.replace('_', ' ').upper()} {job.reason}"
            yield UnfinishedRun(Path(job.directory or job.title), why, values)


def is_run(folder: Path) -> bool:
    """Return True if a folder is a run directory, finished or not."""
    return any(os.path.lexists(folder / name) for name in RUN_FILES)


def _run_directories(folder: Path, others: list[UnfinishedRun]) -> list[Path]:
    """Return the run directories at and below `folder`; add folders that cannot be read to `others`."""
    found = []

    def leave_out(error: OSError) -> None:
        path = Path(error.filename)
        others.append(UnfinishedRun(path, f"cannot be read ({error.strerror})", {}))

    for root, folders, files in os.walk(folder, onerror=leave_out):
        if not RUN_FILES.isdisjoint([*files, *folders]):
            found.append(Path(root))
            folders.clear()  # do not search W&B's files
    return found


def group_runs(runs: list[Run]) -> list[list[Run]]:
    """Group comparable runs. Each group is sorted: unpruned first, then by method, reduction and label."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.key):
        groups.setdefault(run.key, []).append(run)
    for group in groups.values():
        labels = label_runs(group)
        group.sort(
            key=lambda run: (not run.is_unpruned, run.method, run.reduction, _natural(labels[run.path]), run.path)
        )
    return list(groups.values())


def _natural(label: str) -> list[tuple[bool, float, str]]:
    """Return a sort key that orders the numbers in a label by value: seed=2 before seed=10."""
    parts = re.split(r"(\d+(?:\.\d+)?)", label)
    return [(False, float(part), "") if at % 2 else (True, 0.0, part) for at, part in enumerate(parts)]


def find_tables(
    folders: Iterable[Path], passes: Callable[[Run], bool] = lambda run: True
) -> tuple[list[tuple[list[Run], list[Run]]], list[Run], list[UnfinishedRun]]:
    """Return the tables of the runs under `folders` that pass, all finished runs there, and all that is none.

    A table is (runs to show, their whole group): runs that do not pass are still what others are compared with, and so
    are the runs beside a run directory that is named itself.
    """
    folders = list(folders)
    named, others = find_runs(folders)
    runs, _ = find_runs([*folders, *(folder.parent for folder in folders if is_run(folder))])
    paths = {run.path.resolve() for run in named if passes(run)}
    pairs = [([run for run in group if run.path.resolve() in paths], group) for group in group_runs(runs)]
    return [(shown, group) for shown, group in pairs if shown], named, others
