"""The command line as a user types it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CompletedProcess = subprocess.CompletedProcess[str]


@pytest.fixture
def vlmprune(tmp_path: Path) -> Callable[..., CompletedProcess]:
    """Run `vlmprune ARGUMENTS` in an empty folder."""

    def call(*arguments: str, timeout: float = 300) -> CompletedProcess:
        command = [sys.executable, "-m", "vlmprune", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=timeout)

    return call
