"""`vlmprune sweep`: one run for every combination of settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from vlmprune.config.arguments import ConfigDir, OfRun, parse

HELP = """\
vlmprune sweep [key=value,value ...]: one run for every combination, the model loaded once.

  vlmprune sweep method=cls,fastv,divprune ratio=0.5,0.75,0.9,0.95
  vlmprune sweep method=cls,fastv ratio=0.5,0.9 --dry-run
  vlmprune sweep 'method=random' ratio=0.9 'seed=range(0,5)'
  vlmprune sweep experiment=fastervlm model=llava-1.5-7b method=cls,fastv ratio=0.5,0.75,0.9

experiment= is a paper's set of benchmarks (vlmprune list experiments); other settings override it. A setting that only
some of the methods, benchmarks or models have applies to those: method=cls,fastv method.k=3.

The unpruned run is added, and random pruning at as many visual tokens as each job has in the mean over the decoder's
layers, so that FastV and the like are compared at equal work; baselines=false leaves both out. A job that fails is
shown at once and does not stop the others, unless fail_fast=true; a method that a model cannot run gets a row with the
reason. After Ctrl-C or a crash the same command skips finished jobs and resumes interrupted ones.

Where the jobs run (vlmprune list launchers; their settings: launcher.key=value):

  launcher=inprocess   one after the other, here
  launcher=gpus        one job on each GPU of this machine; on a CPU: device=cpu launcher.workers=2
  launcher=slurm       a job array through submitit: launcher.partition=gpu launcher.time=120 launcher.array=8
  launcher=ray         a Ray cluster: launcher.address=auto

{settings}

outputs/sweeps/ has a file per sweep with every job's state and reason, and a log per job. Exit codes: 0; 1 if any job
failed; 2 for bad input, before anything runs; 130 after Ctrl-C.
"""


@dataclass(frozen=True)
class Settings:
    """Arguments of `vlmprune sweep`."""

    overrides: Annotated[tuple[str, ...], OfRun()] = ()
    dry_run: Annotated[bool, "print the jobs with tokens and FLOPs, and those that are done"] = False
    config_dir: ConfigDir = None


def sweep(arguments: list[str]) -> int:
    """Carry out the runs, or print what they would be; return the exit code. Raise UserError for bad input."""
    return start(parse("sweep", Settings, arguments))


def start(settings: Settings) -> int:
    """Do what `sweep` does for parsed arguments."""
    overrides, config_dir = list(settings.overrides), settings.config_dir
    if settings.dry_run:
        from vlmprune.cli.dry_run import dry_run_sweep

        return dry_run_sweep(overrides, config_dir)
    from vlmprune.distributed.torchrun import refuse_sweep
    from vlmprune.sweep import sweep as carry_out

    refuse_sweep()
    return carry_out(overrides, config_dir)
