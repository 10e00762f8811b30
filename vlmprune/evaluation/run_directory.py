"""The run directory: all files that a run writes, in such a way that a crash at any moment loses no answer.

config.yaml         the resolved config                        written first
environment.json    versions, device, git, checkpoint, data    written first
predictions.jsonl   one line per sample, appended and flushed; the first sample's also has the run's `prompt_template`
kept.jsonl          kept tokens as bitmasks, once per image unless they or the images' order depend on the question
bad.jsonl           samples that were left out because they cannot be used: id and reason; only if there are any
result.json         `Result` of result_schema.py, written last and atomically: its presence means "finished"
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from vlmprune.errors import UserError, said
from vlmprune.files import PARTIAL, append_lines, to_json, told, write_atomically
from vlmprune.line_schema import Environments, KeptLine, LeftOut, PredictionLine
from vlmprune.lock import held
from vlmprune.progress import say
from vlmprune.result_schema import Result
from vlmprune.typed_json import read_json, read_lines


class RunDirectory:
    """One run's folder, named by its method, amount and fingerprint."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint
        # Set once the model is loaded; the template is written on the line of `first_sample` only.
        self.prompt_template, self.first_sample = "", ""

    @property
    def result(self) -> dict[str, Any] | None:
        """result.json of a finished run, or None. Raises UserError if it is damaged or of another run."""
        file = self.path / "result.json"
        if not os.path.lexists(file):
            return None
        result = read_result(file)
        self._same(result["fingerprint"], file)
        return result

    @property
    def result_or_none(self) -> dict[str, Any] | None:
        """`result` of another run that this one refers to; None also if it is damaged."""
        try:
            return self.result
        except UserError:
            return None

    def begin(self, config_yaml: str, environment: dict[str, Any]) -> None:
        """Write config.yaml and environment.json. A resumed run keeps every environment that it ran in."""
        file = self.path / "environment.json"
        environments = self._environments(file) if os.path.lexists(file) else []
        if environment not in environments:
            environments.append(environment)
        self.write("config.yaml", config_yaml)
        self.write(file.name, to_json({"fingerprint": self.fingerprint, "environments": environments}))
        self._forget_half_recorded()

    def _environments(self, file: Path) -> list[dict[str, Any]]:
        """Return the environments of earlier parts of the run."""
        try:
            recorded = read_json(file, Environments)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{file} cannot be read ({said(error)}): delete it to go on; what the answers so far were made with is "
                "then unknown"
            ) from error
        self._same(recorded["fingerprint"], file)
        return recorded["environments"]

    def _forget_half_recorded(self) -> None:
        """Remove answers whose kept tokens are lost, such as with the end of a damaged kept.jsonl; they run again."""
        if not (self.path / "kept.jsonl").exists():  # the method records none
            return
        kept = {kept_of(row) for row in self.kept()}
        rows = self.predictions()
        whole = [row for row in rows if kept & {("id", row["id"]), ("image_id", row["image_id"])}]
        if len(whole) < len(rows):
            say(f"{len(rows) - len(whole)} answers have no kept tokens in {self.path}/kept.jsonl: they are asked again")
            self.replace_predictions(whole)

    def discard(self) -> None:
        """Remove the folder of a run that was refused before its first answer, as it has nothing to resume from."""
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
        """Create the folder and hold it exclusively. Raise UserError while another process runs in it."""
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(held(self.path))
            except OSError as error:
                raise UserError(f"outputs folder {self.path} cannot be used: {error}") from error
            for partial in [*self.path.glob(PARTIAL), *self.path.glob(f"pictures/{PARTIAL}")]:
                partial.unlink(missing_ok=True)
            yield

    def predictions(self) -> list[dict[str, Any]]:
        """Return the lines of the answered samples. A last line cut short by a crash is removed from the file."""
        return read_answers(self.path / "predictions.jsonl", PredictionLine)

    def kept(self) -> list[dict[str, Any]]:
        """Return the lines of kept tokens recorded so far."""
        return read_lines(self.path / "kept.jsonl", KeptLine, "record of kept tokens")

    def append(self, predictions: list[dict[str, Any]], kept: list[dict[str, Any]]) -> None:
        """Append answered samples and sync them to the disk; kept tokens first, so that no answer lacks them."""
        append_lines(self.path / "kept.jsonl", kept)
        template = {"prompt_template": self.prompt_template}
        lines = [row | template if row["id"] == self.first_sample else row for row in predictions]
        append_lines(self.path / "predictions.jsonl", lines)

    def bad(self) -> list[dict[str, Any]]:
        """Return the samples that were left out: id and reason."""
        file = self.path / "bad.jsonl"
        return _once(file, read_lines(file, LeftOut, "sample that was left out"), "lines about")

    def append_bad(self, rows: list[dict[str, Any]]) -> None:
        """Append samples that are left out."""
        append_lines(self.path / "bad.jsonl", rows)

    def replace_predictions(self, rows: list[dict[str, Any]]) -> None:
        """Replace predictions.jsonl in one step."""
        self.write("predictions.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def finish(self, result: dict[str, Any]) -> None:
        """Write result.json in one step, which marks the run as finished."""
        self.write("result.json", to_json(result))

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file of the folder in one step. Raise UserError if the disk is full or not writable."""
        with told(self.path / name):
            write_atomically(self.path / name, content)


def kept_of(row: dict[str, Any]) -> tuple[str, str | None]:
    """Return the subject of a line of kept.jsonl: ("id", a question) or ("image_id", an image)."""
    return ("id", row["id"]) if row.get("id") else ("image_id", row.get("image_id"))


def read_result(file: Path) -> dict[str, Any]:
    """Return the content of result.json. Raise UserError if it is damaged or of another schema."""
    try:
        return dict(read_json(file, Result))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read ({said(error)}): delete it, and the same command makes it again from the answers "
            "beside it"
        ) from error


def read_answers(file: Path, schema: Any) -> list[Any]:
    """Return the lines of predictions.jsonl. Raise UserError if one is damaged, or two answer the same sample."""
    return _once(file, read_lines(file, schema, "answer to a sample"), "answers to")


def _once(file: Path, rows: list[Any], what: str) -> list[Any]:
    """Return `rows`, lines about samples. Raise UserError if two are about the same sample."""
    lines: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        first = lines.setdefault(row["id"], number)
        if first != number:
            raise UserError(f"{file} has two {what} sample {row['id']}, lines {first} and {number}: remove one")
    return rows
