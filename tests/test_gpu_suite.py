"""scripts/gpu_suite.sh, which waits for a GPU, does all its steps on a CPU with the embedded model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_every_step_on_a_cpu(tmp_path):
    folder = tmp_path / "results"
    command = [ROOT / "scripts" / "gpu_suite.sh", "--tiny", folder]
    environment = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == (folder / "log.txt").read_text()
    assert " passed" in done.stdout and "skipped" not in done.stdout

    speed = json.loads((folder / "tiny-speed.json").read_text())
    assert [row["state"] for row in speed["rows"]] == ["measured"] * 10
    compiled = json.loads((folder / "tiny-compiled.json").read_text())
    assert [row["label"] for row in compiled["rows"]] == ["unpruned", "cls", "cls compiled"]
    assert all((folder / f"tiny-{chart}.png").stat().st_size > 10_000 for chart in ("speed", "compiled"))
    maps = json.loads((folder / "tiny-output_attentions.json").read_text())
    assert [(row["what"], row["batch_size"]) for row in maps["rows"]] == [("answer", 1)] * 3 + [("encode", 2)] * 3
    assert all(row["same_tokens"] and row["times_faster"] > 0 for row in maps["rows"])
    for result in (speed, maps):
        assert f"json={folder}" in result["command"]


@pytest.mark.slow
def test_a_failing_step_ends_it(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *pytest*) exit 3;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    command = [ROOT / "scripts" / "gpu_suite.sh", "--tiny", tmp_path / "results"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHON": str(python)}, timeout=100
    )
    assert done.returncode == 3 and "vlmprune speed" not in done.stdout
