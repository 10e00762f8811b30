"""Sweeps on the embedded model, with methods of a user's own package that misbehave when they are told to."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from vlmprune.cli import main

QUICK = ("limit=4", "batch_size=2", "latency_samples=0", "logger=none", "device=cpu", "show.samples=0")

METHODS = '''
import os, pathlib, signal, time
from dataclasses import dataclass
from typing import ClassVar
from vlmprune.methods.base import ScoreMethod

@dataclass
class FeatureNorm(ScoreMethod):
    needs: ClassVar = ("features",)
    def score(self, signals):
        return signals.features.norm(dim=-1)

@dataclass
class Boom(FeatureNorm):
    """Fails until there is a file `mended`."""
    def score(self, signals):
        if not os.path.exists("mended"):
            raise ArithmeticError("no score today, " + os.environ.get("FAKE_API_KEY", ""))
        return super().score(signals)

@dataclass
class Stopper(FeatureNorm):
    """Ctrl-C in the second batch, while there is a file `stop` in the working folder."""
    calls: ClassVar = [0]
    def score(self, signals):
        self.calls[0] += 1
        if self.calls[0] == 2 and os.path.exists("stop"):
            raise KeyboardInterrupt
        return super().score(signals)

@dataclass
class Slow(FeatureNorm):
    """While there is a file `slow`, notes its process and takes its time."""
    def score(self, signals):
        if os.path.exists("slow"):
            draft = pathlib.Path(f"pid.{os.getpid()}")
            draft.write_text(str(os.getpid()))
            draft.replace("pid")
            time.sleep(0.3)
        return super().score(signals)
'''


class Place:
    """An empty working folder with a user's own configs/, and what a sweep left there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sweep(self, *settings: str) -> int:
        """`vlmprune sweep` in this process; returns the exit code."""
        return main(["sweep", "--config-dir", "configs", *settings, *QUICK])

    @property
    def state(self) -> dict[str, Any]:
        """The only sweep's file."""
        (file,) = (self.folder / "outputs/sweeps").glob("*.json")
        return json.loads(file.read_text())

    @property
    def statuses(self) -> dict[str, str]:
        """Job -> status."""
        return {job["title"]: job["status"] for job in self.state["jobs"]}

    def answers(self, outputs: str = "outputs") -> dict[str, Any]:
        """Run directory -> the answers part of its result."""
        files = (self.folder / outputs).rglob("result.json")
        return {file.parent.name: json.loads(file.read_text())["answers"] for file in files}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    write_methods(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "odd_methods", raising=False)
    return Place(tmp_path)


def write_methods(folder: Path) -> None:
    """The package and its configs."""
    (folder / "odd_methods.py").write_text(METHODS)
    (folder / "configs/method").mkdir(parents=True)
    for name in ("Boom", "Stopper", "Slow"):
        text = f"_target_: odd_methods.{name}\ninfo: {{title: odd, needs: [features]}}\n"
        (folder / f"configs/method/{name.lower()}.yaml").write_text(text)
