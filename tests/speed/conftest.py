"""Speed on loads that take a second, not on the ones that mean something."""

from __future__ import annotations

import pytest
import torch

from vlmprune.config.settings import ModelConfig
from vlmprune.models.checkpoint import find_checkpoint
from vlmprune.models.loading import LoadedModel, load
from vlmprune.speed import rows
from vlmprune.speed.bench import Ceiling

QUICK = ("speed.new_tokens=3", "speed.repeats=2", "speed.warm_up=1", "speed.prompt_tokens=16", "speed.image_size=56")


@pytest.fixture
def ceiling(monkeypatch: pytest.MonkeyPatch) -> Ceiling:
    """A ceiling that needs no measuring: 1 TFLOP/s, 100 GB/s."""
    known = Ceiling(1e12, 1e11, 8, 8)
    monkeypatch.setattr(rows, "measure_ceiling", lambda *_: known)
    return known


@pytest.fixture(scope="package")
def loaded() -> LoadedModel:
    """The embedded model."""
    config = ModelConfig("tiny")
    return load(find_checkpoint(config), config, torch.float32, torch.device("cpu"))
