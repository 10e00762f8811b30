"""A wheel holds everything: installed in a folder of its own, it runs without this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_wheel_runs_on_its_own(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", site, wheel], check=True)
    command = [
        sys.executable,
        "-P",
        "-m",
        "vlmprune",
        "run",
        "limit=8",
        "ratio=0.9",
        "logger=none",
        "latency_samples=2",
    ]
    where = "import vlmprune, vlmprune.configs; print(vlmprune.__file__, vlmprune.configs.__file__)"
    environment = os.environ | {"PYTHONPATH": str(site)}
    found = subprocess.run(
        [sys.executable, "-P", "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert found.stdout.count(str(site)) == 2
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "14 of 144 kept" in done.stdout
