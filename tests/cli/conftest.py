"""The command line as a user types it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.results.synthetic import make_outputs

CompletedProcess = subprocess.CompletedProcess[str]


@pytest.fixture
def vlmprune(tmp_path: Path) -> Callable[..., CompletedProcess]:
    """Run `vlmprune ARGUMENTS` in an empty folder."""

    def call(*arguments: str, timeout: float = 300) -> CompletedProcess:
        command = [sys.executable, "-m", "vlmprune", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=timeout)

    return call


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """The unpruned run, random and two methods at two ratios, and one that was interrupted; made up."""
    return make_outputs(tmp_path)
