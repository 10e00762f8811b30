"""The number of a run's processes, and its limits, which are checked before anything starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from vlmprune.config.settings import RunConfig, compose_run
from vlmprune.distributed import torchrun
from vlmprune.distributed.processes import process_count
from vlmprune.errors import UserError


@pytest.fixture(scope="module")
def config() -> Callable[..., RunConfig]:
    composed = compose_run(["logger=none"])
    return lambda **changes: dataclasses.replace(composed, **changes)


@pytest.fixture
def gpus(monkeypatch) -> Callable[[int], None]:
    return lambda count: monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_one_process_is_the_default(config, gpus):
    gpus(0)
    assert process_count(config()) == 1


def test_more_gpus_than_there_are(config, gpus):
    gpus(3)
    assert process_count(config(devices=3)) == 3
    with pytest.raises(UserError, match=r"devices=4: this machine has 3 GPUs; with device=cpu"):
        process_count(config(devices=4, device="cuda"))


def test_on_the_cpu_there_are_as_many_as_cores(config, gpus, monkeypatch):
    gpus(0)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert process_count(config(devices=4, device="cpu")) == 4
    with pytest.raises(UserError, match="devices=99: this machine has 4 CPU cores, one for each process"):
        process_count(config(devices=99, device="cpu"))
    with pytest.raises(UserError, match="this machine has 0 GPUs"):
        process_count(config(devices=2))


def test_one_gpu_is_not_shared(config, gpus):
    gpus(4)
    with pytest.raises(UserError, match="device=cuda:1: each of 2 processes gets its own; allowed: auto, cuda, cpu"):
        process_count(config(devices=2, device="cuda:1"))


def test_a_model_that_is_spread_over_the_gpus_has_one_process(config, gpus):
    gpus(4)
    model = dataclasses.replace(config().model, device_map="auto")
    with pytest.raises(UserError, match=r"model.device_map=auto: .* use devices=1"):
        process_count(config(devices=2, model=model))
    assert process_count(config(model=model)) == 1


def test_a_launcher_says_how_many(config, gpus, monkeypatch):
    gpus(0)
    monkeypatch.setattr(torchrun, "launched", 2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert process_count(config(device="cpu")) == process_count(config(device="cpu", devices=2)) == 2
    with pytest.raises(UserError, match="devices=3: the launcher started 2 processes"):
        process_count(config(device="cpu", devices=3))
    with pytest.raises(UserError, match="2 processes: this machine has 0 GPUs"):
        process_count(config())
    with pytest.raises(UserError, match="devices=2 gives every job of a sweep as many"):
        torchrun.refuse_sweep()


def test_half_an_environment_of_a_launcher(monkeypatch):
    for name in torchrun.NEEDED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="WORLD_SIZE=2 without RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT"):
        torchrun.run_in_all_processes(lambda _: 0, [])
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert torchrun.run_in_all_processes(lambda arguments: len(arguments), ["limit=8"]) == 1
