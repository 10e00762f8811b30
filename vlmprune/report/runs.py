"""Finished runs as read back from their directories."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprune.errors import said
from vlmprune.records import check_types
from vlmprune.report.escapes import one_line

if TYPE_CHECKING:
    from vlmprune.report.questions import Questions


@dataclass(frozen=True)
class Run:
    """One finished run, the numbers of result.json that `compare` shows.

    settings: as typed. score: None until the answers are judged; low, high: its interval, None where there is none.
    flops, unpruned_flops: None where they cannot be counted. pruned_ms, unpruned_ms: median ms of each timed part; a
    part that was not measured is not there. kv_cache_bytes, peak_memory_mb: None where not measured. beyond: questions
    that are longer than the decoder's `limit` positions, `longest` at most; None of all three where that is not known.
    """

    path: Path
    settings: tuple[str, ...]
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
    limit: int | None
    longest: int | None
    beyond: int | None
    flops: float | None
    unpruned_flops: float | None
    pruned_ms: dict[str, float]
    unpruned_ms: dict[str, float]
    kv_cache_bytes: float | None
    peak_memory_mb: float | None
    environment: dict[str, Any]

    @cached_property
    def questions(self) -> Questions | None:
        """Every question's score, read once; None where predictions.jsonl is gone, damaged or not judged."""
        from vlmprune.report.questions import read_questions

        return read_questions(self.path / "predictions.jsonl")

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.yaml, read once; {} where it cannot be. Anyone may have written it: look at what it holds."""
        return read_config(self.path / "config.yaml")

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
    except (OSError, ValueError, RecursionError) as error:
        return f"result.json cannot be read ({said(error)})"
    try:
        if result["schema"] != 1:
            return f"result.json has schema {result['schema']}; this version reads 1"
        check_types(result)
        return _from_result(path, result)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return f"result.json is not as expected ({type(error).__name__}: {said(error)})"


def _from_result(path: Path, result: dict[str, Any]) -> Run:
    answers, timings = result["answers"], result["timings"]
    latency, cache = timings["latency"] or {"pruned": {}, "unpruned": {}}, timings.get("kv_cache_bytes") or {}
    low, high = answers["interval95"] or (None, None)
    tokens, flops, positions = answers["tokens"], answers["flops"] or {}, answers.get("positions") or {}
    return Run(
        path,
        tuple(one_line(str(setting)) for setting in result.get("settings", [])),
        one_line(result["model"]),
        one_line(result["method"]),
        one_line(result["benchmark"]),
        result["ratio"],
        result["keep"],
        dict(result["subset"]),
        dict(result["comparable"]),
        one_line(answers["metric"]),
        _float(answers["score"]),
        _float(low),
        _float(high),
        int(answers["samples"]),
        float(tokens["total"]),
        float(tokens["kept"]["mean"]),
        float(tokens["layer_averaged"]),
        _int(positions.get("limit")),
        _int(positions.get("longest")),
        _int(positions.get("beyond")),
        _float(flops.get("total")),
        _float(flops.get("unpruned_total")),
        _medians(latency["pruned"]),
        _medians(latency["unpruned"]),
        _float(cache.get("pruned")),
        _float(timings.get("peak_memory_mb")),
        dict(result["environment"]),
    )


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _int(value: Any) -> int | None:
    return None if value is None else int(value)


def _medians(parts: dict[str, Any]) -> dict[str, float]:
    """Of the parts that were measured; what stands beside them and is no summary of times is left out."""
    return {part: float(times["median_ms"]) for part, times in parts.items() if isinstance(times, dict)}


def read_config(file: Path) -> dict[str, Any]:
    """A recorded config as plain data; {} where it cannot be read or is no mapping."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, where PyYAML came with libyaml
    try:
        with open(file, "rb") as text:
            config = yaml.load(text, loader)
    except (OSError, yaml.YAMLError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def unpruned_beside(result: dict[str, Any], directory: Path) -> float | None:
    """Score of the unpruned run that `result`, of the run in `directory`, may be compared with, or None."""
    if result["method"] == "none":
        return _float(result["answers"]["score"])
    beside = runs_beside(result, directory, "none-*")
    return beside[0].score if beside else None


def runs_beside(result: dict[str, Any], directory: Path, names: str) -> list[Run]:
    """Finished runs that `result`, of the run in `directory`, may be compared with; names: a pattern of theirs."""
    runs = [read_run(path) for path in sorted(directory.parent.glob(names))]
    return [run for run in runs if isinstance(run, Run) and run.comparable == result["comparable"]]


def _lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0
