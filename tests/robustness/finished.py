"""Directories of finished runs to damage, made up in milliseconds: no model is run for them."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.results.synthetic import make_result, make_run

Edit = Callable[[Any], None]

RUN = ("run", "method=cls", "keep=14", "limit=2", "logger=none", "device=cpu", "latency_samples=0", "show.samples=0")
SPEED = Path(__file__).parents[2] / "outputs/reference/speed-h200/llava-speed.json"


def two_runs(folder: Path) -> Path:
    """The unpruned run and cls at 0.9 in outputs/; returns the directory of the second."""
    make_run(folder / "outputs", "none")
    path = make_run(folder / "outputs", "cls", 0.9)
    config = {"method": {"k": 2}, "model": {"prompt": "p"}, "benchmark": _scenes(), "positions": "keep"}
    (path / "config.yaml").write_text(json.dumps(config))
    return path


def finished_run(folder: Path) -> Path:
    """The directory that `RUN` finds finished in outputs/, with every file that it reads back."""
    name, fingerprint, ids = _identity()
    path = folder / name
    path.mkdir(parents=True)
    rows = [
        {
            **{"id": id_, "image_id": f"image{number}", "category": "color", "question": "What?", "prompt": "What?"},
            **{"answer": "red", "prediction": "red", "score": 1.0, "extra": {}, "images": 1},
            "encoded": {"slots": 144, "newlines": 0, "tiles": [[12, 12]], "projected": 144, "units": [[144]]},
            **{"sequence": 27, "visual": [[0, 14]], "positions": 29, "generated": 2},
        }
        for number, id_ in enumerate(ids)
    ]
    result = make_result("cls", None, rows) | {"fingerprint": fingerprint, "keep": 14}
    result["answers"]["metrics"], result["answers"]["images"] = {"accuracy": 1.0}, 2
    kept = [{"image_id": row["image_id"], "n": 144, "kept": f"{2**14 - 1:036x}"} for row in rows]
    (path / "config.yaml").write_text(json.dumps({"benchmark": _scenes()}))
    (path / "environment.json").write_text(json.dumps({"fingerprint": fingerprint, "environments": [{}]}))
    (path / "result.json").write_text(json.dumps(result))
    write_lines(path / "predictions.jsonl", rows)
    write_lines(path / "kept.jsonl", kept)
    return path


def interrupted_run(folder: Path) -> Path:
    """The same before its last question: there is no result.json yet."""
    path = finished_run(folder)
    (path / "result.json").unlink()
    write_lines(path / "predictions.jsonl", read_lines(path / "predictions.jsonl")[:1])
    return path


def name_of_run() -> str:
    """The pattern by which a shell would name the directory of `finished_run`; its name has a hash."""
    return _identity()[0]


def write_lines(file: Path, rows: list[Any]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def with_value(path: str, value: Any) -> Edit:
    """Set, or with `REMOVED` remove, what a path such as "jobs.0.title" leads to; digits are places in lists."""

    def edit(data: Any) -> None:
        *steps, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for step in steps:
            data = data[step]
        if value is REMOVED:
            del data[last]
        else:
            data[last] = value

    return edit


REMOVED = object()


def edit_json(file: Path, edit: Edit) -> None:
    data = json.loads(file.read_text())
    edit(data)
    file.write_text(json.dumps(data))


def edit_line(file: Path, number: int, edit: Edit) -> None:
    """Of a JSON-lines file, the line `number`, from 1."""
    rows = read_lines(file)
    edit(rows[number - 1])
    write_lines(file, rows)


def replace(file: Path, kind: str) -> None:
    """Put something in the place of a file, by its name in `PLACES`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    PLACES[kind](file)


PLACES: dict[str, Callable[[Path], Any]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a device": lambda file: file.symlink_to("/dev/zero"),
    "a link to itself": lambda file: file.symlink_to(file),
    "nothing": Path.touch,
    "a byte-order mark": lambda file: file.write_bytes(b"\xef\xbb\xbf{}\n"),
    "zeros": lambda file: file.write_bytes(b"\x00" * 99 + b"\n"),
    "no UTF-8": lambda file: file.write_bytes(b'{"\xff": 1}\n'),
    "10,000 brackets": lambda file: file.write_bytes(b"[" * 10_000 + b"]" * 10_000 + b"\n"),
    "10,000 objects": lambda file: file.write_bytes(b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"\n"),
    "a number": lambda file: file.write_bytes(b"3\n"),
    "a list": lambda file: file.write_bytes(b"[1]\n"),
    "null": lambda file: file.write_bytes(b"null\n"),
    "a number of 5,000 digits": lambda file: file.write_bytes(b'{"schema": ' + b"9" * 5000 + b"}\n"),
}


def _scenes() -> dict[str, Any]:
    from vlmprune.config.registry import read_choice

    return read_choice("benchmark", "scenes")


@functools.cache
def _identity() -> tuple[str, str, list[str]]:
    """Of `RUN`: its directory, relative to where it is typed, its fingerprint, and the ids of its questions."""
    from vlmprune.config.settings import compose_run
    from vlmprune.evaluation.plan import make_plan

    plan = make_plan(compose_run(list(RUN[1:])))
    return str(plan.directory.path), plan.directory.fingerprint, [sample.id for sample in plan.samples]
