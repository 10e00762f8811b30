"""Pictures of 169 million pixels, four of which at a time would not fit: all are answered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.robustness.victims import ENVIRONMENT


@pytest.mark.slow
def test_six_large_pictures_fit_into_six_gigabytes(tmp_path: Path) -> None:
    Image.new("L", (13_000, 13_000), 99).save(tmp_path / "0.png", compress_level=1)
    for number in range(1, 6):
        shutil.copy(tmp_path / "0.png", tmp_path / f"{number}.png")
    rows = [{"id": f"q{n}", "image": f"{n}.png", "question": "What color", "answer": "red"} for n in range(6)]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ["benchmark=folder", f"benchmark.path={tmp_path}", f"outputs={tmp_path}/out", "method=none"]
    quick = ["benchmark.max_new_tokens=2", "latency_samples=0", "show.samples=0", "logger=none"]
    command = [sys.executable, "-m", "vlmprune", "run", *settings, *quick]
    limited = ["bash", "-c", 'ulimit -v 6000000; exec "$@"', "bash", *command]
    done = subprocess.run(limited, capture_output=True, text=True, env=os.environ | ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-2000:]
    (result,) = tmp_path.rglob("result.json")
    assert json.loads(result.read_text())["answers"]["samples"] == 6
