"""Files that runs left in an outputs folder, to compare a disturbed one with one that nothing happened to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmprune.files import PARTIAL


def run_folders(outputs: Path) -> list[Path]:
    """Directories of runs, finished or not."""
    return sorted(file.parent for file in outputs.rglob("config.yaml"))


def left(outputs: Path) -> dict[str, dict[str, Any]]:
    """Of every run, all that must not depend on what happened to it: equal to an undisturbed one's, line by line."""
    runs = {}
    for folder in run_folders(outputs):
        predictions = lines(folder / "predictions.jsonl")
        asked = [json.loads(line)["id"] for line in predictions]
        assert len(asked) == len(set(asked)), f"{folder}: {len(asked) - len(set(asked))} of {len(asked)} are doubled"
        partial = [file.name for file in folder.glob(PARTIAL)]
        assert not partial, f"{folder}: half-written files are left: {partial}"
        runs[str(folder.relative_to(outputs))] = {
            "files": sorted(file.name for file in folder.iterdir() if file.is_file()),
            "predictions": predictions,
            "kept": lines(folder / "kept.jsonl"),
            "answers": json.loads((folder / "result.json").read_text())["answers"],
            "pictures": sorted(file.name for file in folder.glob("pictures/*")),
        }
    return runs


def lines(file: Path) -> list[str]:
    """Complete lines of a file, sorted: in which order questions are asked depends on where a run was stopped."""
    return sorted(file.read_text().split("\n")[:-1]) if file.exists() else []


@dataclass(frozen=True)
class Progress:
    """Progress of the runs below a folder. answered: of all runs; whole: runs all of whose questions are answered."""

    answered: int
    whole: int
    finished: int


def progress(outputs: Path, questions: int) -> Progress:
    """`questions`: of each run."""
    counts = [len(lines(folder / "predictions.jsonl")) for folder in run_folders(outputs)]
    finished = len(list(outputs.rglob("result.json")))
    return Progress(sum(counts), sum(count == questions for count in counts), finished)


def stage(before: Progress, after: Progress, runs: int) -> str:
    """Return a process's work at the moment it was stopped, seen from what it had done since it was started."""
    if after.finished == runs:
        return "ending"
    if after.whole > after.finished:
        return "finishing a run"
    return "starting" if after == before else "answering"
