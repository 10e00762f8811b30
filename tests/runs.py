"""`vlmprune run` in the process of the tests."""

from __future__ import annotations

from typing import Any

from vlmprune.config.settings import RunConfig
from vlmprune.evaluation.plan import Resources, make_plan
from vlmprune.run import run as run_plan


def run(config: RunConfig, resources: Resources | None = None) -> dict[str, Any]:
    """The result of a run, as of a process of its own unless it shares `resources` with others."""
    resources = resources or Resources()
    return run_plan(make_plan(config, resources), resources)
