"""The scripts say how they are used, and refuse in one line what they cannot measure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from tests.loggers.test_wandb import CONFIG
from tests.loggers.wandb_reader import read_closed_run
from tests.results.synthetic import make_run
from vlmprune.loggers.wandb import WandbLogger

ROOT = Path(__file__).parents[1]


def load(name: str) -> ModuleType:
    return import_module(f"scripts.{name}")


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


HOUSE = {
    "__init__.py": '"""What it is."""\nfrom house import low\n',
    "low.py": 'def f():\n    """Return 1."""\n    return 1\n',
    "high/__init__.py": "",
    "high/top.py": "def f():\n    from house.low import f\n    import json, house.high.side\n    return f\n",
    "high/side.py": "if TYPE_CHECKING:\n    from house.other import X\n",
    "other.py": "import torch\nfrom house.high import side\nfrom house import *\n" + "\n" * 60 + "class X: ...\n",
}


@pytest.fixture
def house(tmp_path):
    for name, text in HOUSE.items():
        path = tmp_path / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "house"


def test_figures_of_a_house(house):
    read = load("house").read_house(house)
    assert read.figures == {
        "files": "6",
        "lines": "75",
        "median file": "2.5",
        "largest file": "64",
        "files under 60 lines": "5",
        "imports per 100 lines": "9.3",
        "modules with one importer": "2",
        "file-to-file arrows": "6",
        "parts": "4",
        "arrows between parts": "5",
        "circles between parts": "1",
        "docstrings": "2",
        "docstrings that open with What, Which, Whether, How": "1",
        "median function": "3.5",
    }
    assert read.singles == ["house", "house.other"]
    assert read.circles == [["high", "other"]]


def test_figures_before_and_after(house, monkeypatch, capsys):
    after = house.parent / "after" / "house"
    after.mkdir(parents=True)
    (after / "low.py").write_text(HOUSE["low.py"])
    monkeypatch.setattr(sys, "argv", ["house.py", "-v", str(house), str(after)])
    load("house").main()
    lines = capsys.readouterr().out.splitlines()
    columns = [line.split()[-2:] for line in lines[:4]]
    assert columns == [["before", "after"], ["6", "1"], ["75", "3"], ["2.5", "3"]]
    assert len({len(line) for line in lines[:15]}) == 1
    assert "  house.other" in lines and "  high, other" in lines


def test_figures_need_a_package(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["house.py", str(tmp_path)])
    with pytest.raises(SystemExit):
        load("house").main()
    assert "holds no *.py file; name the folder of a package" in capsys.readouterr().err


@pytest.mark.slow
def test_figures_of_this_package(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["house.py"])
    load("house").main()
    assert f"{len(list((ROOT / 'vlmprune').rglob('*.py')))}" in capsys.readouterr().out.splitlines()[0]


def test_charts_are_made_of_wandbs_own_files(tmp_path, monkeypatch):
    """With nothing of the run directories left: what they draw is what W&B has."""
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    logger, results = WandbLogger(mode="offline"), {}
    for number, (method, ratio) in enumerate((("none", None), ("cls", 0.9), ("cls", 0.5), ("fastv", 0.5))):
        directory = make_run(tmp_path, method, ratio)
        result = results[method, ratio] = json.loads((directory / "result.json").read_text())
        logger.place(directory, tmp_path)
        logger.start(CONFIG | {"method": {"name": method}}, f"{number}" * 64, None)
        for questions, score in ((8, 0.25), (16, 0.5)):
            logger.log_progress({"questions": questions, "score": score, "score_low": 0.125, "score_high": 0.75})
        logger.log_result(result, [])
        logger.finish(0)
        assert read_closed_run(next(directory.rglob("*.wandb"))).exit_code == 0
        (directory / "result.json").unlink()
    script = load("wandb_charts")
    runs = script.read_runs(tmp_path)
    cls, fastv = script.ratio_curves(runs)
    answers = [results["cls", ratio]["answers"] for ratio in (0.5, 0.9)]
    expected = [
        (100 * ratio, *(100 * value for value in (each["score"], *each["interval95"])))
        for ratio, each in zip((0.5, 0.9), answers, strict=True)
    ]
    assert sorted(cls.points) == [pytest.approx(point) for point in expected]
    assert (cls.label, fastv.label, len(fastv.points)) == ("cls", "fastv", 1)
    running = {curve.label: curve.points for curve in script.running_curves(runs)}  # at the largest ratio
    assert running == {name: [(8, 25, 12.5, 75), (16, 50, 12.5, 75)] for name in ("unpruned", "cls")}
    script.draw(runs, tmp_path / "wandb.png")
    assert Image.open(tmp_path / "wandb.png").width == 960
    with pytest.raises(SystemExit, match="no finished run"):
        script.read_runs(tmp_path / "elsewhere")
