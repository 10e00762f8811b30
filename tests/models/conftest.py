"""Checkpoints in the hub's format, written once for all tests that only read them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.models.hub import MODELS, save


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of each family's checkpoint, to be read only."""
    return cache(lambda family: save(tmp_path_factory.mktemp("hub") / family, family))


@pytest.fixture(scope="module", params=MODELS)
def folder(request: pytest.FixtureRequest, hub: Callable[[str], Path]) -> Path:
    return hub(request.param)
