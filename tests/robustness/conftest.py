"""Processes to kill, and a benchmark small enough to be run many times in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.fixtures import ROWS
from tests.robustness.left import left
from tests.robustness.victims import Victims
from tests.runs import run
from vlmprune.config.settings import compose_run

Runs = dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def victims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Victims]]:
    """Two servers, so that a machine with two cores is used; they have imported all that a run needs."""
    servers = [Victims(), Victims()]
    for server in servers:
        server.warm_up(tmp_path_factory.mktemp("warm"), "run", "keep=14", "limit=2", "logger=none")
    yield servers
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings of a run of eight questions that writes every kind of file, a submission file among them."""
    from datasets import Dataset

    file = tmp_path_factory.mktemp("data") / "test.parquet"
    Dataset.from_list([ROWS["vizwiz"](k) for k in range(8)]).to_parquet(file)
    return [
        "benchmark=vizwiz",
        f"benchmark.path={file}",
        "benchmark.max_new_tokens=2",
        "method=cls",
        "ratio=0.9",
        "batch_size=4",
        "latency_samples=0",
        "show.samples=1",
        "logger=none",
    ]


@pytest.fixture
def go(small: list[str]) -> Callable[..., dict[str, Any]]:
    """Do, or go on with, the small run in an outputs folder."""
    return lambda outputs, *more, **shared: run(compose_run([*small, *more, f"outputs={outputs}"]), **shared)


@pytest.fixture(scope="session")
def finished(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs folder of the small run, to which nothing happened. To be copied."""
    outputs: Path = tmp_path_factory.mktemp("calm")
    run(compose_run([*small, f"outputs={outputs}"]))
    return outputs


@pytest.fixture(scope="session")
def calm(finished: Path) -> Runs:
    """All that the small run leaves when nothing happens to it."""
    return left(finished)
