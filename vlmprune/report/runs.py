"""Finished runs as read back from their directories, and which of them may be compared."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REFERENCE = "reference"  # committed results of another machine: read when named, not mixed into one's own


@dataclass(frozen=True)
class Run:
    """One finished run, the numbers of result.json that `compare` shows. Times in ms, None where not measured.

    score: None until the answers are judged; low, high: its interval, None where there is none. flops, unpruned_flops:
    None where they cannot be counted.
    """

    path: Path
    model: str
    method: str
    benchmark: str
    ratio: float | None
    keep: int | None
    subset: dict[str, Any]
    comparable: dict[str, str]
    metric: str
    score: float | None
    low: float | None
    high: float | None
    samples: int
    total: float
    kept: float
    layer_averaged: float
    flops: float | None
    unpruned_flops: float | None
    prefill_ms: float | None
    unpruned_prefill_ms: float | None
    end_to_end_ms: float | None
    environment: dict[str, Any]

    @property
    def key(self) -> tuple[str, ...]:
        """Two runs may be compared where this is equal."""
        return (self.benchmark, self.model, *(f"{name}={value}" for name, value in sorted(self.comparable.items())))

    @property
    def reduction(self) -> float:
        """Fraction of visual tokens removed: as asked for, or what it came to."""
        return self.ratio if self.ratio is not None else 1 - self.kept / self.total

    @property
    def unpruned(self) -> bool:
        return self.method == "none"

    @property
    def blind(self) -> bool:
        """No visual token left: what the questions alone give away."""
        return self.kept == 0

    @property
    def amount(self) -> str:
        """What was asked for: '95 %', 'keep 64', or 'default' for a published schedule."""
        if self.unpruned:
            return ""
        if self.keep is not None:
            return f"keep {self.keep}"
        return "default" if self.ratio is None else f"{100 * self.ratio:g} %"


def read_run(path: Path) -> Run | str:
    """The run in directory `path`, or one line that says why there is none to show."""
    try:
        result = json.loads((path / "result.json").read_text())
    except FileNotFoundError:
        done = _lines(path / "predictions.jsonl")
        return f"not finished, {done} questions answered: the same `vlmprune run` goes on there"
    except (OSError, ValueError) as error:
        return f"result.json cannot be read ({_one_line(error)})"
    try:
        if result["schema"] != 1:
            return f"result.json has schema {result['schema']}; this version reads 1"
        return _from_result(path, result)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return f"result.json is not as expected ({type(error).__name__}: {_one_line(error)})"


def _from_result(path: Path, result: dict[str, Any]) -> Run:
    answers, latency = result["answers"], result["timings"]["latency"]
    low, high = answers["interval95"] or (None, None)
    tokens, flops = answers["tokens"], answers["flops"] or {}
    return Run(
        path,
        result["model"],
        result["method"],
        result["benchmark"],
        result["ratio"],
        result["keep"],
        dict(result["subset"]),
        dict(result["comparable"]),
        answers["metric"],
        _float(answers["score"]),
        _float(low),
        _float(high),
        int(answers["samples"]),
        float(tokens["total"]),
        float(tokens["kept"]["mean"]),
        float(tokens["layer_averaged"]),
        _float(flops.get("total")),
        _float(flops.get("unpruned_total")),
        _median(latency, "pruned", "prefill"),
        _median(latency, "unpruned", "prefill"),
        _median(latency, "pruned", "end_to_end"),
        dict(result["environment"]),
    )


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _median(latency: dict[str, Any] | None, side: str, part: str) -> float | None:
    times = latency[side][part] if latency else None
    return float(times["median_ms"]) if times else None


def find_runs(folders: Iterable[Path]) -> tuple[list[Run], list[tuple[Path, str]]]:
    """All finished runs under `folders`, and (directory, why not) of the others. A folder may be a run itself."""
    runs, others = [], []
    for path in sorted({path for folder in folders for path in _run_directories(folder)}):
        found = read_run(path)
        if isinstance(found, Run):
            runs.append(found)
        else:
            others.append((path, found))
    return runs, others


def _run_directories(folder: Path) -> list[Path]:
    found = []
    for root, folders, files in os.walk(folder):
        if "result.json" in files or "config.yaml" in files:
            found.append(Path(root))
            folders.clear()  # W&B's own files are below
        elif Path(root) == folder and REFERENCE in folders:
            folders.remove(REFERENCE)
    return found


def group_runs(runs: list[Run]) -> list[list[Run]]:
    """Runs that may be compared, together: unpruned first, then by method and by how much is removed."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.key, not run.unpruned, run.method, run.reduction, str(run.path))):
        groups.setdefault(run.key, []).append(run)
    return list(groups.values())


def unpruned_beside(result: dict[str, Any], directory: Path) -> float | None:
    """Score of the unpruned run that `result`, of the run in `directory`, may be compared with, or None."""
    if result["method"] == "none":
        return _float(result["answers"]["score"])
    for path in sorted(directory.parent.glob("none-*")):
        run = read_run(path)
        if isinstance(run, Run) and run.comparable == result["comparable"]:
            return run.score
    return None


def read_scores(run: Run) -> dict[str, tuple[float, str]] | None:
    """Question id -> (score, image id) from predictions.jsonl; None where it is gone, damaged or not judged."""
    try:
        with open(run.path / "predictions.jsonl") as lines:
            rows = [json.loads(line) for line in lines]
        return {row["id"]: (float(row["score"]), row["image_id"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
