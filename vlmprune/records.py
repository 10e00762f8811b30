"""The run directory: everything a run leaves behind, written so that a crash at any moment loses nothing.

config.yaml         the resolved config                        written first
environment.json    versions, device, git, checkpoint, data    written first
predictions.jsonl   one line per sample, appended and flushed
kept.jsonl          kept tokens as bitmasks, once per image where the method does not read the question
bad.jsonl           samples that were left out because they cannot be used: id and reason; only where there are some
result.json         RESULT_SCHEMA below, written last and atomically: its presence means "finished"
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vlmprune.errors import UserError

RESULT_SCHEMA = {
    "schema": "1",
    "fingerprint": "sha256 of all that can change the answers",
    "model, method, benchmark": "names of the choices",
    "ratio, keep": "what was asked for; null where it was not",
    "subset": "limit, shard and seed",
    "comparable": "runs may be compared where all are equal: benchmark, scorer, subset, prompt, model, dtype, judge, "
    "and the convention of flops where it is not ours",
    "answers": {
        "metric, score, interval95": "the main metric, a fraction of 1 where it has a maximum; bootstrap clustered by "
        "image; null while the answers are not judged or have no public reference, and an interval that means nothing",
        "metrics": "every metric of the set by name, in the scale of its authors; {} where score is null",
        "samples, images": "that were answered",
        "by_category": "category -> score, samples",
        "tokens": "visual: total, kept (mean, min, max), layer_averaged; sequence: with text, at decoder layer 0",
        "flops": "per question, FLOP = 2 MAC: convention (the formula), vision, projector, selection, prefill, decode, "
        "total, unpruned_total; null where they cannot be counted, and flops_unknown says why",
    },
    "media": "images, or how many frames of a video were given, and how",
    "bad_samples": "left out because they cannot be used (on_bad_sample=skip): count, ids (the first 20)",
    "timings": {
        "latency": "pruned and unpruned in turn at batch 1, ms: median_ms, p90_ms and n of each part, which are vision, "
        "selection, projector, prefill (with all selection), first_token (all up to its logits), decode_per_token, other, "
        "end_to_end; samples, batch_size; tokens: of the mean prompt, text, visual_before and visual_after pruning (mean "
        "over layers); conditions: device, device_name, dtype, attention, threads, clocks_mhz (null on a CPU)",
        "evaluation": "of this process's share: seconds spent waiting for media, on beginnings of prompts that several "
        "questions share (media_s, shared_s, beginnings) and on questions (questions_s); whole_prompts: questions asked "
        "without a shared beginning; batch_size asked for and used, which is less after out-of-memory",
        "evaluation_s, samples_per_s": "the batched evaluation of this process's share of the samples",
        "peak_memory_mb, peak_memory_since": "of loading and evaluation: torch's allocator on a GPU, the process's resident "
        "set on a CPU, since its reset, or since process start where the system does not let it be reset",
        "kv_cache_bytes": "of one question's prompt, pruned and unpruned",
    },
    "environment": "device, dtype, attention, batch_size, versions",
    "judge": "of a judged benchmark, once asked: model, base_url, protocol/version",
    "rescored": "by `vlmprune score`: UTC date and time, vlmprune's version; absent where it never was",
    "finished": "UTC date and time",
}


class RunDirectory:
    """One run's folder, named by what was run and by its fingerprint."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint

    @property
    def result(self) -> dict[str, Any] | None:
        """result.json of a finished run, or None."""
        file = self.path / "result.json"
        if not file.exists():
            return None
        try:
            result = json.loads(file.read_text())
            if not isinstance(result, dict):
                raise ValueError("not an object")
        except (OSError, ValueError) as error:
            raise UserError(f"{file} cannot be read ({error}): delete it to run again") from error
        self._same(result.get("fingerprint"), file)
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
        environments = []
        try:
            if file.exists():
                recorded = json.loads(file.read_text())
                self._same(recorded["fingerprint"], file)
                environments = recorded["environments"]
            if environment not in environments:
                environments.append(environment)
            write_atomically(self.path / "config.yaml", config_yaml)
            write_atomically(file, to_json({"fingerprint": self.fingerprint, "environments": environments}))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{file} cannot be read or written: {error}") from error

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
            yield

    def predictions(self) -> list[dict[str, Any]]:
        """Samples that are already answered. A last line cut short by a crash is removed from the file."""
        return read_lines(self.path / "predictions.jsonl")

    def kept(self) -> list[dict[str, Any]]:
        """Kept tokens recorded so far."""
        return read_lines(self.path / "kept.jsonl")

    def append(self, predictions: list[dict[str, Any]], kept: list[dict[str, Any]]) -> None:
        """Add answered samples and flush them to the disk. Kept tokens go first: an answer is never without them."""
        append_lines(self.path / "kept.jsonl", kept)
        append_lines(self.path / "predictions.jsonl", predictions)

    def bad(self) -> list[dict[str, Any]]:
        """Samples that were left out: id and reason."""
        return read_lines(self.path / "bad.jsonl")

    def append_bad(self, rows: list[dict[str, Any]]) -> None:
        """Note samples that are left out."""
        append_lines(self.path / "bad.jsonl", rows)

    def finish(self, result: dict[str, Any]) -> None:
        """Write result.json in one step."""
        write_atomically(self.path / "result.json", to_json(result))


def to_json(data: Any) -> str:
    """Indented JSON; a nan is an error, not a token that other readers refuse."""
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def write_atomically(path: Path, text: str) -> None:
    """Write beside the file and rename over it, so that no reader ever sees half of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with open(partial, "w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(partial, path)


def append_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Append one JSON line per row, flushed and synced."""
    if not rows:
        return
    with open(path, "a") as handle:
        handle.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        handle.flush()
        os.fsync(handle.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; an incomplete last line is cut off the file, a broken earlier one is an error."""
    if not path.exists():
        return []
    data = path.read_bytes()
    complete = data.rfind(b"\n") + 1
    if complete < len(data):
        os.truncate(path, complete)
    rows = []
    for number, line in enumerate(data[:complete].splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path} line {number} is not JSON ({error}): remove the line to resume") from error
    return rows
