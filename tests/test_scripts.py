"""The scripts say how they are used, and refuse in one line what they cannot measure."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ratio", "3"], "ratio=3.0: the fraction of visual tokens removed; allowed: 0 to 1"),
        (["--rounds", "0"], "--rounds 0: allowed: 1 or more"),
        (["method=fastv"], "'method=fastv': the loop is that of cls"),
    ],
)
def test_throughput_refuses_in_one_line(arguments, said, monkeypatch):
    from vlmprune.errors import UserError

    script = load("bench_throughput")
    monkeypatch.setattr(sys, "argv", ["bench_throughput.py", *arguments])
    with pytest.raises(UserError) as caught:
        script.main()
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_help_of_the_other_way(capsys):
    load("bench_output_attentions").main(["--help"])
    assert "Settings are those of" in capsys.readouterr().out


@pytest.mark.slow
def test_help_of_the_scorers_needs_no_other_environment():
    command = [sys.executable, ROOT / "scripts" / "crosscheck_scorers.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and "count" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("gpu", "folder"),
    [("NVIDIA H200", "speed-h200"), ("NVIDIA A100-SXM4-80GB", "speed-a100-sxm4-80gb"), ("Tesla T4", "speed-tesla-t4")],
)
def test_the_suite_names_its_folder_after_the_gpu(tmp_path, gpu, folder):
    """A stand-in for nvidia-smi; the suite ends at its first step, which wants a python that is not there."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "gpu_suite.sh").write_text((ROOT / "scripts" / "gpu_suite.sh").read_text())
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho '{gpu}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": "false"}
    done = subprocess.run(["bash", scripts / "gpu_suite.sh"], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert [path.name for path in (tmp_path / "outputs/reference").iterdir()] == [folder]
