"""A benchmark object as the runner builds it."""

from __future__ import annotations

from typing import Any

from vlmprune.benchmarks.base import Benchmark
from vlmprune.config.registry import DESCRIPTION, read_choice, target_class
from vlmprune.config.settings import compose_run
from vlmprune.config.typecheck import construct
from vlmprune.evaluation.plan import build_benchmark


def build(overrides: list[str]) -> Benchmark:
    """The benchmark of these overrides, not loaded yet."""
    return build_benchmark(compose_run(["method=none", *overrides]))


def make(name: str, **settings: Any) -> Any:
    """A choice's benchmark with other settings, without composing a run: in a millisecond."""
    choice = read_choice("benchmark", name)
    own = {key: value for key, value in choice.items() if key not in DESCRIPTION}
    return construct(target_class(choice["_target_"], Benchmark), own | settings, "benchmark.")
