"""The run directory: everything a run leaves behind, written so that a crash at any moment loses nothing.

config.yaml         the resolved config                        written first
environment.json    versions, device, git, checkpoint, data    written first
predictions.jsonl   one line per sample, appended and flushed; the first sample's also has the run's `prompt_template`
kept.jsonl          kept tokens as bitmasks, once per image unless the question decides about them or the images' order
bad.jsonl           samples that were left out because they cannot be used: id and reason; only where there are some
result.json         RESULT_SCHEMA of result_schema.py, written last and atomically: its presence means "finished"
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vlmprune.errors import UserError
from vlmprune.files import PARTIAL, append_lines, read_lines, to_json, told, write_atomically
from vlmprune.progress import say

PARTS = ("subset", "comparable", "answers", "bad_samples", "timings", "environment")  # of RESULT_SCHEMA, objects


def check_types(result: dict[str, Any]) -> None:
    """Raise KeyError, AttributeError or TypeError where a result lacks what is used, or has it in another type."""
    for part in PARTS:
        result[part].keys()
    answers = result["answers"]
    tokens = answers["tokens"]
    counts = {"total": tokens["total"], "kept": tokens["kept"]["mean"], "layer_averaged": tokens["layer_averaged"]}
    positions = answers.get("positions") or {"limit": 0, "longest": 0, "beyond": 0}  # older results have none
    counts |= {name: positions[name] for name in ("limit", "longest", "beyond")}
    numbers = {"ratio": result["ratio"], "keep": result["keep"], "score": answers["score"], **counts}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise TypeError(f"{name} is {str(value)[:40]!r}, not a number")


class RunDirectory:
    """One run's folder, named by what was run and by its fingerprint."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint
        # Known once the model's is, and the sample whose line has it, whichever is answered first.
        self.prompt_template, self.first_sample = "", ""

    @property
    def result(self) -> dict[str, Any] | None:
        """result.json of a finished run, or None."""
        file = self.path / "result.json"
        if not file.exists():
            return None
        try:
            result = json.loads(file.read_bytes(), parse_constant=not_json)
            self._same(result["fingerprint"], file)
            if result["schema"] != 1:
                raise ValueError(f"schema {result['schema']}; this version reads 1")
            check_types(result)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{file} cannot be read ({type(error).__name__}: {error}): delete it, and the same command makes it "
                "again from the answers beside it"
            ) from error
        return result

    @property
    def result_or_none(self) -> dict[str, Any] | None:
        """The same for a run that this one merely refers to: a damaged result is none."""
        try:
            return self.result
        except UserError:
            return None

    def begin(self, config_yaml: str, environment: dict[str, Any]) -> None:
        """Write what is known before the first sample. A resumed run keeps every environment that it ran in."""
        file = self.path / "environment.json"
        environments = self._environments(file) if file.exists() else []
        if environment not in environments:
            environments.append(environment)
        self.write("config.yaml", config_yaml)
        self.write(file.name, to_json({"fingerprint": self.fingerprint, "environments": environments}))
        self._forget_half_recorded()

    def _environments(self, file: Path) -> list[dict[str, Any]]:
        """What earlier parts of the run stood on."""
        try:
            recorded = json.loads(file.read_bytes())
            self._same(recorded["fingerprint"], file)
            return list(recorded["environments"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{file} cannot be read ({type(error).__name__}: {error}): delete it to go on; what the answers so far "
                "were made with is then unknown"
            ) from error

    def _forget_half_recorded(self) -> None:
        """Have samples asked again whose kept tokens are lost, such as with the end of a damaged kept.jsonl."""
        if not (self.path / "kept.jsonl").exists():  # a method that has none to record
            return
        kept = {kept_of(row) for row in self.kept()}
        rows = self.predictions()
        whole = [row for row in rows if kept & {("id", row["id"]), ("image_id", row["image_id"])}]
        if len(whole) < len(rows):
            say(f"{len(rows) - len(whole)} answers have no kept tokens in {self.path}/kept.jsonl: they are asked again")
            self.replace_predictions(whole)

    def discard(self) -> None:
        """Remove the folder of a run that had to be refused before its first answer: there is nothing to go on from."""
        if not self.predictions() and not self.bad():
            shutil.rmtree(self.path, ignore_errors=True)

    def _same(self, recorded: str | None, file: Path) -> None:
        if recorded != self.fingerprint:
            raise UserError(
                f"{file} belongs to another run ({str(recorded)[:12]}, this one is {self.fingerprint[:12]}): "
                "move it away or use another outputs="
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Create the folder and hold it alone; raises UserError while another process runs in it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = open(self.path / ".lock", "w")  # noqa: SIM115  (closed below, after the run)
        except OSError as error:
            raise UserError(f"outputs folder {self.path} cannot be used: {error}") from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(f"{self.path} is in use by another vlmprune process: wait for it to end") from error
            for partial in [*self.path.glob(PARTIAL), *self.path.glob(f"pictures/{PARTIAL}")]:
                partial.unlink(missing_ok=True)
            yield

    def predictions(self) -> list[dict[str, Any]]:
        """Samples that are already answered. A last line cut short by a crash is removed from the file."""
        file = self.path / "predictions.jsonl"
        rows = read_lines(file)
        lines: dict[str, int] = {}
        for number, row in enumerate(rows, start=1):
            if not isinstance(row.get("id"), str):
                raise UserError(f"{file} line {number} is no answer to a sample: remove the line to resume")
            first = lines.setdefault(row["id"], number)
            if first != number:
                raise UserError(f"{file} has two answers to sample {row['id']}, lines {first} and {number}: remove one")
        return rows

    def kept(self) -> list[dict[str, Any]]:
        """Kept tokens recorded so far."""
        return read_lines(self.path / "kept.jsonl")

    def append(self, predictions: list[dict[str, Any]], kept: list[dict[str, Any]]) -> None:
        """Add answered samples and flush them to the disk. Kept tokens go first: an answer is never without them."""
        append_lines(self.path / "kept.jsonl", kept)
        template = {"prompt_template": self.prompt_template}
        lines = [row | template if row["id"] == self.first_sample else row for row in predictions]
        append_lines(self.path / "predictions.jsonl", lines)

    def bad(self) -> list[dict[str, Any]]:
        """Samples that were left out: id and reason."""
        return read_lines(self.path / "bad.jsonl")

    def append_bad(self, rows: list[dict[str, Any]]) -> None:
        """Note samples that are left out."""
        append_lines(self.path / "bad.jsonl", rows)

    def replace_predictions(self, rows: list[dict[str, Any]]) -> None:
        """Write predictions.jsonl anew in one step."""
        self.write("predictions.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def finish(self, result: dict[str, Any]) -> None:
        """Write result.json in one step: from then on the run is finished."""
        self.write("result.json", to_json(result))

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file of the folder in one step. Raises UserError where the disk is full or cannot be written to."""
        with told(self.path / name):
            write_atomically(self.path / name, content)


def kept_of(row: dict[str, Any]) -> tuple[str, str | None]:
    """Name what a line of kept.jsonl is about: ("id", a question) or ("image_id", an image)."""
    return ("id", row["id"]) if row.get("id") else ("image_id", row.get("image_id"))


def not_json(constant: str) -> float:
    """What Python's reader does with NaN and Infinity, which it would take."""
    raise ValueError(f"{constant} is not JSON")
