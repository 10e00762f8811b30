"""`vlmprune score`: the answers of run directories scored again, without a model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from vlmprune.benchmarks.judging import Judge
from vlmprune.config.arguments import ConfigDir, Words, parse
from vlmprune.errors import UserError
from vlmprune.terminal import say

HELP = """\
vlmprune score DIR ... [judge.key=value ...]: score the answers of run directories again, without a model.

  vlmprune score outputs/pope/tiny/cls-0.9-0123456789ab                after a scorer changed
  vlmprune score outputs/mmvet/tiny/* judge.base_url=https://host/v1 judge.model=NAME

The judge is any OpenAI-compatible endpoint; its key comes from VLMPRUNE_JUDGE_KEY in the environment. Verdicts are kept
in the run directory, so that the same command resumes.

{settings}
"""


@dataclass(frozen=True)
class Settings:
    """Arguments of `vlmprune score`. judge: None without any of its settings."""

    folders: Annotated[tuple[str, ...], Words()] = ()
    judge: Judge | None = None
    config_dir: ConfigDir = None


def score(arguments: list[str]) -> int:
    """Score the answers of the run directories, and update their files; return the exit code."""
    from vlmprune.evaluation.rescore import rescore

    settings = parse("score", Settings, arguments)
    if not settings.folders:
        raise UserError("name a run directory: vlmprune score outputs/BENCHMARK/MODEL/METHOD-RATIO-FINGERPRINT")
    for folder in [Path(os.path.expanduser(each)) for each in settings.folders]:
        print_scores(folder, *rescore(folder, settings.judge, settings.config_dir))
    return 0


def print_scores(folder: Path, scores: dict[str, Any], before: float | None, finished: bool) -> None:
    """Print the folder and its metrics on stdout, and a note about its files on stderr."""
    print(folder)
    if not scores["metrics"]:
        print(f"{scores['metric']:<24} none: the split has no public answers")
    for name, value in scores["metrics"].items():
        print(f"{name:<24} {value:.4f}")
    if finished:
        changed = "" if before is None else f", main score before: {before:.4f}"
        say(f"rescored {scores['samples']} answers in {folder}{changed}; a W&B run keeps what it was sent")
    else:
        say(f"scored {scores['samples']} answers in {folder}; the run is not finished, so there is no result.json yet")
