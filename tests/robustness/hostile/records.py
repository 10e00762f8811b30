"""Files of finished runs, sweeps and measurements that somebody edited, or put something else in the place of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.robustness import finished
from tests.robustness.finished import REMOVED, RUN, edit_json, edit_line, replace, with_value
from tests.robustness.hostile.table import Hostile

HUGE = 10**400
DEEP: list[Any] = []
for _ in range(500):
    DEEP = [DEEP]


def pairs(values: dict[str, tuple[Any, ...]]) -> list[tuple[str, Any]]:
    """Return each path with each value that it is to be set to."""
    return [(path, value) for path, several in values.items() for value in several]


# Of result.json: what is set to what.
RESULT = pairs(
    {
        "schema": (2, None),
        "answers.score": (-1, "0.5", True, 1e308, float("nan"), HUGE),
        "answers.interval95": ([0.9, 0.1], [0.5], {"low": 0.5}),
        "answers.samples": (-1, 1.5, HUGE),
        "answers.metric": (["accuracy"],),
        "answers.metrics": ({"accuracy": "high"},),
        "answers.tokens": ([],),
        "answers.tokens.total": (-1, 0),
        "answers.tokens.kept.mean": (145,),
        "answers.tokens.kept": (3,),
        "answers.tokens.layer_averaged": (REMOVED,),
        "answers.positions": ({"limit": 0, "longest": -1, "beyond": 0},),
        "answers.flops.total": (-1, float("inf")),
        "answers.flops.unpruned_total": (0,),
        "ratio": (1.5, float("nan")),
        "keep": (-3,),
        "model": (DEEP,),
        "settings": ("method=cls", [{"method": "cls"}]),
        "comparable": (None, {"benchmark": 1}),
        "environment": ([],),
        "environment.versions": (["torch"],),
        "timings.latency.pruned.prefill": ({"median_ms": -1, "p90_ms": 1}, {"median_ms": "3"}),
        "timings.latency": ([1],),
        "timings.kv_cache_bytes": ({"pruned": -1, "unpruned": 1},),
        "timings.peak_memory_mb": ("900",),
        "subset": ({"limit": -1, "shard": None, "seed": 0},),
        "fingerprint": (7,),
    }
)
# Of the second line of predictions.jsonl.
LINES = pairs({"id": (3, REMOVED), "image_id": (None,), "score": (-1, "x", float("nan"), 1e308), "category": (["a"],)})
# Of the second line of predictions.jsonl too, where it is that of a whole answer.
ANSWER: tuple[tuple[str, Any], ...] = (
    ("prediction", 5),
    ("question", None),
    ("extra", []),
    ("visual", [[0]]),
    ("visual", [[3, 14]]),
    ("visual", []),
    ("encoded.slots", -1),
    ("encoded.tiles", [[12]]),
    ("encoded", REMOVED),
    ("sequence", 1.5),
    ("generated", -2),
)
# Of other files of a run that goes on, and the line of a file that has several.
OTHERS = {
    ("environment.json", 0): pairs({"fingerprint": (3,), "environments": ({}, [3], REMOVED)}),
    ("kept.jsonl", 1): pairs({"kept": ("f" * 35, "0x3f", "", 5), "image_id": (None, REMOVED)}),
    ("kept.jsonl", 2): pairs({"n": (-1, 10**12, 140, True)}),
}
CLS = "outputs/scenes/tiny/cls-0.9"
SWEEP: dict[str, Any] = {
    **{"schema": 1, "group": "g", "settings": [], "launcher": "inprocess", "started": "2026", "updated": "2026"},
    "jobs": [
        {
            **{"title": "t", "overrides": ["a=1"], "model": "tiny", "method": "scm", "benchmark": "scenes"},
            **{"ratio": 0.5, "keep": None, "status": "failed", "reason": "why", "score": None, "answered": 0},
            **{"samples": 4, "seconds": 1.0, "directory": None, "log": None},
        }
    ],
}
JOBS: tuple[tuple[str, Any], ...] = (
    ("schema", 9),
    ("updated", 3),
    ("jobs", {}),
    ("jobs.0", None),
    ("jobs.0.status", "FAILED"),
    ("jobs.0.ratio", 2),
    ("jobs.0.overrides", "a=1"),
    ("jobs.0.reason", DEEP),
    ("jobs.0.directory", 3),
    ("jobs.0.title", REMOVED),
)
MEASURED: tuple[tuple[str, Any], ...] = (
    ("schema", 2),
    ("rows", {}),
    ("rows", [3]),
    ("rows.0.state", "done"),
    ("rows.0.batch_size", -1),
    ("rows.0.label", None),
    ("rows.0.tokens.visual", 0),
    ("rows.0.ms.prefill.median_ms", "7"),
    ("rows.0.ms.prefill", 3),
    ("rows.0.ms", REMOVED),
    ("rows.1.speed_up.first_token", float("nan")),
    ("rows.1.flops_ratio", -1),
    ("rows.0.flops.first_token", 1e308),
    ("ceiling.flops", float("inf")),
    ("load", None),
    ("model.name", 3),
    ("conditions.device", ["cpu"]),
)


def changed(make: Callable[[Path], Path], name: str, path: str, value: Any, line: int = 0) -> Callable[[Path], None]:
    """Prepare a directory by `make` in which one field of the file `name` is changed."""

    def prepare(folder: Path) -> None:
        file = make(folder) / name
        edit = with_value(path, value)
        if line:
            edit_line(file, line, edit)
        else:
            edit_json(file, edit)

    return prepare


def replaced(make: Callable[[Path], Path], name: str, kind: str) -> Callable[[Path], None]:
    """Prepare a directory by `make` in which something else stands in the place of the file `name`."""
    return lambda folder: replace(make(folder) / name, kind)


def sweep(path: str, value: Any) -> Callable[[Path], None]:
    """Prepare two runs, and the record of a sweep with one change."""

    def prepare(folder: Path) -> None:
        finished.two_runs(folder)
        (folder / "outputs/sweeps").mkdir()
        file = folder / "outputs/sweeps/g.json"
        file.write_text(json.dumps(SWEEP))
        edit_json(file, with_value(path, value))

    return prepare


def speed(path: str, value: Any) -> Callable[[Path], None]:
    """Prepare a result of `vlmprune speed` with one change."""

    def prepare(folder: Path) -> None:
        (folder / "s.json").write_bytes(finished.SPEED.read_bytes())
        edit_json(folder / "s.json", with_value(path, value))

    return prepare


def told(path: str, value: Any) -> str:
    """'answers.score=-1', as the name of a case."""
    return f"{path} {'gone' if value is REMOVED else str(value)[:30]}"


def cases() -> Iterator[Hostile]:
    compare, runs, again = ("compare",), finished.two_runs, finished.finished_run
    for path, value in RESULT:
        field = path.rpartition(".")[2]
        named = ("cls-0.9", "result.json", field if value is not DEEP else "recursion")
        prepare = changed(runs, "result.json", path, value)
        quick = path in ("answers.score", "answers.tokens.total") and value in (-1, 0, HUGE)
        yield Hostile("records", f"compare: {told(path, value)}", compare, named, prepare, code=0, quick=quick)
    for kind in finished.PLACES:
        prepare = replaced(runs, "result.json", kind)
        yield Hostile("records", f"compare: {kind} as result", compare, ("result.json", "cls-0.9"), prepare, code=0)
        prepare = replaced(again, "result.json", kind)
        yield Hostile("records", f"run: {kind} as result", RUN, ("result.json cannot be read",), prepare)
    for path, value in LINES:
        named = ("predictions.jsonl line 2", path)
        prepare = changed(runs, "predictions.jsonl", path, value, 2)
        quick = value == -1
        yield Hostile("records", f"compare: line's {told(path, value)}", compare, named, prepare, code=0, quick=quick)
        prepare = changed(finished.interrupted_run, "predictions.jsonl", path, value, 1)
        yield Hostile("records", f"run: line's {told(path, value)}", RUN, ("predictions.jsonl line 1", path), prepare)
    for path, value in ANSWER:
        prepare = changed(finished.interrupted_run, "predictions.jsonl", path, value, 1)
        named = ("predictions.jsonl line 1", path.partition(".")[0])
        yield Hostile("records", f"run: line's {told(path, value)}", RUN, named, prepare)
    for (name, line), fields in OTHERS.items():
        for path, value in fields:
            prepare = changed(finished.interrupted_run, name, path, value, line)
            where = f"{name} line {line}" if line else name
            yield Hostile("records", f"run: {name}'s {told(path, value)}", RUN, (where, path), prepare)
    for kind in ("a pipe", "a folder", "10,000 brackets", "no UTF-8"):
        for name in ("predictions.jsonl", "kept.jsonl", "bad.jsonl", "environment.json"):
            prepare = replaced(finished.interrupted_run, name, kind)
            yield Hostile("records", f"run: {kind} as {name}", RUN, (name,), prepare)
        for name in ("predictions.jsonl", "config.yaml"):
            prepare = replaced(runs, name, kind)
            yield Hostile("records", f"compare: {kind} as {name}", compare, (f"note: {CLS}", name), prepare, code=0)
            folder = finished.name_of_run()
            prepare = replaced(again, name, kind)
            yield Hostile("records", f"score: {kind} as {name}", ("score", folder), (name,), prepare)
        prepare = replaced(runs, "../../../sweeps/g.json", kind)
        yield Hostile("records", f"compare: {kind} as sweep", compare, ("sweeps/g.json",), prepare, code=0)
        named = ("note: ", "pictures/index.json")
        page = ("compare", "html=page.html", "columns=method")
        prepare = replaced(runs, "pictures/index.json", kind)
        yield Hostile("records", f"compare: {kind} as index", page, named, prepare, code=0)
        prepare = replaced(lambda folder: folder, "s.json", kind)
        yield Hostile("records", f"speed: {kind}", ("speed", "from=s.json"), ("from=s.json",), prepare)
    for path, value in JOBS:
        quick = path == "jobs.0.status"
        prepare = sweep(path, value)
        named = ("sweeps/g.json",)
        yield Hostile("records", f"compare: sweep's {told(path, value)}", compare, named, prepare, code=0, quick=quick)
    for path, value in MEASURED:
        quick = path in ("schema", "rows.0.tokens.visual")
        arguments = ("speed", "from=s.json", "chart=none")
        named = ("from=s.json", path.rpartition(".")[2])
        yield Hostile("records", f"speed: {told(path, value)}", arguments, named, speed(path, value), quick=quick)


CASES = list(cases())
