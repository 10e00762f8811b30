"""A wheel holds everything and no more: installed in a folder of its own, it runs without this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_wheel_runs_on_its_own(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    settings = tmp_path / "build.cfg"  # else setuptools packs whatever an earlier build left in build/
    settings.write_text(f"[build]\nbuild_base = {tmp_path / 'build'}\n")
    building = os.environ | {"DIST_EXTRA_CONFIG": str(settings)}
    command = [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, str(ROOT)]
    subprocess.run(command, check=True, env=building)
    (wheel,) = tmp_path.glob("*.whl")
    packed = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in packed if ".dist-info/" not in name} == {"vlmprune"}
    code = [name for name in packed if name.startswith("vlmprune/tiny/") and name.endswith(".py")]
    assert sorted(code) == ["vlmprune/tiny/__init__.py", "vlmprune/tiny/testset.py"], "training belongs to scripts/"
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", site, wheel], check=True)
    run = ["run", "limit=8", "ratio=0.9", "logger=none", "latency_samples=2"]
    command = [sys.executable, "-P", "-m", "vlmprune", *run]
    where = "import vlmprune, vlmprune.configs; print(vlmprune.__file__, vlmprune.configs.__file__)"
    environment = os.environ | {"PYTHONPATH": str(site)}
    found = subprocess.run(
        [sys.executable, "-P", "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert found.stdout.count(str(site)) == 2
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "14 of 144 kept" in done.stdout
