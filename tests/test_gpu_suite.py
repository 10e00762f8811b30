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

    def rows(name: str) -> list[dict]:
        return json.loads((folder / f"{name}.json").read_text())["rows"]

    for model in ("next", "llava"):
        assert [row["state"] for row in rows(f"{model}-speed")] == ["measured"] * 10
        labels = ["unpruned", "unpruned compiled", "cls", "cls compiled"]
        assert [row["label"] for row in rows(f"{model}-compiled")] == labels
        maps = rows(f"{model}-attentions")
        assert [(row["what"], row["batch_size"]) for row in maps] == [("answer", 1)] * 2
        assert all(row["same_tokens"] and row["times_faster"] > 0 for row in maps)
    assert [row["label"] for row in rows("selections")] == ["unpruned", "divprune", "vispruner", "sparsevlm"]
    assert len(list(folder.iterdir())) == 8


@pytest.mark.slow
def test_a_failing_step_ends_no_other(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *"-m pytest"*) exit 3;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    command = [ROOT / "scripts" / "gpu_suite.sh", "--tiny", tmp_path / "results"]
    chosen = os.environ | {"PYTHON": str(python), "STEPS": "golden selections colour"}
    done = subprocess.run(command, capture_output=True, text=True, env=chosen, timeout=200)
    assert done.returncode == 1
    assert "FAILED with exit code 3: golden" in done.stdout
    assert "STEPS=colour: no such step; allowed: device golden" in done.stdout
    assert (tmp_path / "results" / "selections.json").exists()
