"""`vlmprune time`: the latency of finished runs measured again, without touching their answers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from vlmprune.config.arguments import ConfigDir, OfRun, Words, parse
from vlmprune.errors import UserError
from vlmprune.terminal import print_pairs, say

HELP = """\
vlmprune time DIR ... [key=value ...]: measure the latency of finished runs again, while the machine does nothing else.

  vlmprune time outputs/pope/tiny/cls-0.9-0123456789ab        its times were taken on a busy machine
  vlmprune time outputs/pope/tiny/* latency_samples=64        all runs of a benchmark, with one loaded model

Pruned and unpruned calls run in turn on the questions of the run, with its settings; the answers stay as they are.
Earlier figures are kept in result.json with their dates; `vlmprune compare` shows the latest. Runs that are not
finished, and runs whose checkpoint, data or method changed, are refused before anything is timed.

{settings}
"""


@dataclass(frozen=True)
class Settings:
    """Arguments of `vlmprune time`."""

    folders: Annotated[tuple[str, ...], Words()] = ()
    overrides: Annotated[
        tuple[str, ...], OfRun(("latency_samples", "device")), "of the timing; by default those of the run"
    ] = ()
    config_dir: ConfigDir = None


def time_runs(arguments: list[str]) -> int:
    """Measure the latency of the run directories and update their result.json; return the exit code.

    Raise UserError, before anything is timed, if one of them cannot be.
    """
    settings = parse("time", Settings, arguments)
    if not settings.folders:
        raise UserError("name a run directory: vlmprune time outputs/BENCHMARK/MODEL/METHOD-RATIO-FINGERPRINT")
    from vlmprune.evaluation.plan import Resources
    from vlmprune.evaluation.retime import plan_retiming, retime
    from vlmprune.results.timing import latency_lines

    resources = Resources()
    folders = [Path(os.path.expanduser(each)) for each in settings.folders]
    plans = [plan_retiming(folder, settings.overrides, settings.config_dir, resources) for folder in folders]
    for number, plan in enumerate(plans, 1):
        say(f"timing {plan.directory.path} ({number} of {len(plans)})")
        result = retime(plan, resources)
        timings = result["timings"]
        pairs = latency_lines(timings["latency"], pruned=result["method"] != "none")
        for earlier in timings.get("earlier_latency", [])[-1:]:
            before = latency_lines(earlier, pruned=result["method"] != "none")
            pairs.append(("before", f"{earlier.get('measured', 'date unknown')}: prefill {before[0][1]}"))
        print(plan.directory.path)
        print_pairs(pairs)
    say("earlier figures are kept in result.json (timings.earlier_latency); a W&B run keeps what it was sent")
    return 0
