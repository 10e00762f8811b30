"""`vlmprune sweep`: one run for every combination, in one process, so that the model is loaded once."""

from __future__ import annotations

import hashlib
import time
import traceback
from dataclasses import dataclass

from vlmprune.config import RunConfig, compose_run, expand_sweep
from vlmprune.errors import UserError
from vlmprune.progress import say
from vlmprune.registry import read


@dataclass
class Job:
    """One combination: its overrides and, once it ran, its score or the reason why there is none."""

    overrides: list[str]
    config: RunConfig | None = None
    score: float | None = None
    failure: str = ""

    @property
    def title(self) -> str:
        return " ".join(self.overrides) or "defaults"


def sweep(settings: list[str], config_dir: str | None) -> int:
    """Run every combination of `settings`; returns the exit code (1 if any job failed)."""
    from vlmprune.run import run

    jobs = plan_jobs(settings, config_dir)
    group = "sweep-" + hashlib.sha256("\n".join(sorted(job.title for job in jobs)).encode()).hexdigest()[:8]
    start = time.perf_counter()
    for number, job in enumerate(jobs, start=1):
        left = (time.perf_counter() - start) / max(1, number - 1) * (len(jobs) - number + 1)
        eta = f", about {left / 60:.1f} min left" if number > 1 else ""
        say(f"\n[{number}/{len(jobs)}] {job.title}{eta}")
        try:
            assert job.config is not None
            job.score = run(job.config, group)["answers"]["score"]
        except UserError as error:
            job.failure = str(error)
            say(f"FAILED {job.title}: {error}")
        except Exception as error:  # a sweep's job is a boundary: log it whole and go on with the others
            job.failure = f"{type(error).__name__}: {error}"
            traceback.print_exc()
            say(f"FAILED {job.title}: {job.failure}")
    show_jobs(jobs)
    return 1 if any(job.failure for job in jobs) else 0


def plan_jobs(settings: list[str], config_dir: str | None) -> list[Job]:
    """All combinations, each composed and checked before the first one runs; baselines first."""
    baselines = True
    kept = []
    for setting in with_experiment(settings, config_dir):
        if setting.startswith("baselines="):
            value = setting.partition("=")[2].lower()
            if value not in ("true", "false"):
                raise UserError(f"baselines={value}: allowed: true, false")
            baselines = value == "true"
        else:
            kept.append(setting)
    combinations = expand_sweep(kept)
    if baselines:
        combinations = [*_baselines(combinations), *combinations]
    # The unpruned model has no amount: `method=none,cls ratio=0.5,0.9` means one unpruned run, not two impossible ones.
    combinations = [_without_amount(o) if "method=none" in o else o for o in combinations]
    unique = {tuple(sorted(overrides)): Job(overrides) for overrides in combinations}
    for job in unique.values():
        job.config = compose_run(job.overrides, config_dir)
    return list(unique.values())


def with_experiment(settings: list[str], config_dir: str | None) -> list[str]:
    """`experiment=NAME` replaced by that preset's overrides, of which those that `settings` give too are dropped."""
    names = [setting.partition("=")[2] for setting in settings if setting.startswith("experiment=")]
    own = [setting for setting in settings if not setting.startswith("experiment=")]
    given = {setting.partition("=")[0] for setting in own}
    preset = [override for name in names for override in read("experiment", name, config_dir)["overrides"]]
    return [override for override in preset if override.partition("=")[0] not in given] + own


def _baselines(combinations: list[list[str]]) -> list[list[str]]:
    """For every combination, the unpruned run and random pruning by the same amount."""
    added = []
    for overrides in combinations:
        plain = [o for o in overrides if not o.startswith(("method=", "method."))]
        bare = [override for override in _without_amount(plain) if not override.startswith("seed=")]
        added.append(["method=none", *bare])
        if _without_amount(plain) != plain:
            added.append(["method=random", *plain])
    return added


def _without_amount(overrides: list[str]) -> list[str]:
    return [override for override in overrides if not override.startswith(("ratio=", "keep=", "method."))]


def show_jobs(jobs: list[Job]) -> None:
    """One line per job on stdout."""
    from rich.table import Table

    from vlmprune.progress import results_console

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("job", "score", ""):
        table.add_column(column)
    for job in jobs:
        missing = "" if job.failure else "not judged"
        score = missing if job.score is None else f"{100 * job.score:.1f} %"
        table.add_row(job.title, score, f"FAILED {job.failure}" if job.failure else "")
    console = results_console()
    console.print()
    console.print(table)
    console.print("\nnext   vlmprune compare")
