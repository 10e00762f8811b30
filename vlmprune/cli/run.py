"""`vlmprune run`: one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from vlmprune.cli import sweep
from vlmprune.config.arguments import ConfigDir, OfRun, parse
from vlmprune.errors import UserError

HELP = """\
vlmprune run [key=value ...]: evaluate one method on one benchmark, measure it and record it.

  vlmprune run method=cls ratio=0.95
  vlmprune run method=fastv method.k=3 keep=32 limit=200
  vlmprune run model=llava-1.5-7b benchmark=gqa method=cls ratio=0.9 device=cuda model.dtype=float16
  vlmprune run model=path model.path=/checkpoints/my-llava method=none
  vlmprune run model=llava-1.5-7b benchmark=gqa method=cls ratio=0.9 devices=4

devices=4 divides the questions among four GPUs, each with the whole model; so do torchrun and accelerate launch, as in
`torchrun --nproc-per-node 4 -m vlmprune run method=cls`. The answers are the same as those of one GPU.

The run directory is named by a fingerprint of all that can change an answer. The same command prints a finished run
again, and resumes an interrupted one. `vlmprune list settings` has every setting with its default and meaning.

{settings}
"""


@dataclass(frozen=True)
class Settings:
    """Arguments of `vlmprune run`."""

    overrides: Annotated[tuple[str, ...], OfRun()] = ()
    cfg: Annotated[bool, "print the composed config, and stop (also --cfg job)"] = False
    dry_run: Annotated[
        bool, "print it with tokens and FLOPs per question and whether the run is new, partly done or finished"
    ] = False
    multirun: Annotated[bool, "or -m: several values for a setting, as `vlmprune sweep`"] = False
    m: bool = False
    config_dir: ConfigDir = None


def run(arguments: list[str]) -> int:
    """Carry out one run, or print what it would be; return the exit code. Raise UserError for bad input."""
    # `--cfg job` is Hydra's spelling
    given = [
        each for before, each in zip(["", *arguments], arguments, strict=False) if (before, each) != ("--cfg", "job")
    ]
    settings = parse("run", Settings, given)
    overrides, config_dir = list(settings.overrides), settings.config_dir
    if settings.multirun or settings.m:  # as in Hydra
        if settings.cfg:
            raise UserError("--cfg prints the config of one run, and --multirun is for several: give one of the two")
        return sweep.start(sweep.Settings(settings.overrides, settings.dry_run, config_dir))
    from vlmprune.config.settings import compose_run

    config = compose_run(overrides, config_dir)
    if settings.cfg:
        from omegaconf import OmegaConf

        groups = " ".join(f"{group}s {config.names[group]}" for group in ("model", "method", "benchmark"))
        print(f"# The meaning of each: vlmprune list settings {groups}")
        print(OmegaConf.to_yaml(OmegaConf.create(config.resolved)), end="")
    elif settings.dry_run:
        from vlmprune.cli.dry_run import dry_run

        return dry_run(overrides, config_dir)
    else:
        from vlmprune.evaluation.plan import Resources, make_plan
        from vlmprune.run import run as carry_out

        carry_out(make_plan(config), Resources())
    return 0
