"""A benchmark object as the runner builds it."""

from __future__ import annotations

from vlmprune.benchmarks.base import Benchmark
from vlmprune.config import compose_run
from vlmprune.plan import build_benchmark


def build(overrides: list[str]) -> Benchmark:
    """The benchmark of these overrides, not loaded yet."""
    return build_benchmark(compose_run(["method=none", *overrides]))
