"""Reads a W&B offline run back from its .wandb file: protobuf records in LevelDB's log format."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK, FILE_HEADER, CHUNK_HEADER = 32768, 7, 7


@dataclass
class OfflineRun:
    """The record that wandb-core wrote of one run, in `folder`."""

    folder: Path
    run_id: str = ""
    group: str = ""
    project: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    exit_code: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    axes: dict[str, str] = field(default_factory=dict)  # of metrics by name or pattern
    artifacts: dict[str, dict[str, Path]] = field(default_factory=dict)  # type of each, and its files by name


def payloads(data: bytes) -> list[bytes]:
    """The complete records of a log: chunks of crc (4 bytes), length (2), type (1: whole, 2..4: first, middle, last).

    W&B's service may still be writing its last chunk when a run's `finish` has returned.
    """
    assert b":W&B".startswith(data[:4])
    records, partial, at = [], b"", FILE_HEADER
    while at + CHUNK_HEADER <= len(data):
        left = BLOCK - at % BLOCK
        if left < CHUNK_HEADER:
            at += left  # too short for a header: zeros up to the next block
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        partial += data[at + CHUNK_HEADER : at + CHUNK_HEADER + length]
        at += CHUNK_HEADER + length
        if at > len(data):
            break
        if kind in (1, 4):
            records.append(partial)
            partial = b""
    return records


def read_offline_run(file: Path) -> OfflineRun:
    """Config, summary, history and exit code of one .wandb file."""
    from wandb.proto import wandb_internal_pb2

    run = OfflineRun(file.parent)
    for payload in payloads(file.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.run_id, run.group, run.project = record.run.run_id, record.run.run_group, record.run.project
            run.job_type, run.tags = record.run.job_type, list(record.run.tags)
            _update(run.config, record.run.config.update)
        elif kind == "config":
            _update(run.config, record.config.update)
        elif kind == "summary":
            _update(run.summary, record.summary.update)
        elif kind == "history":
            row: dict[str, Any] = {}
            _update(row, record.history.item)
            run.history.append(row)
        elif kind == "metric":
            run.axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "artifact":
            logged = record.artifact
            run.artifacts[logged.type] = {entry.path: Path(entry.local_path) for entry in logged.manifest.contents}
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def read_closed_run(file: Path) -> OfflineRun:
    """Return a run as wandb-core has it in the end: it closes its file a moment after finish() returns."""
    deadline = time.monotonic() + 10
    while (run := read_offline_run(file)).exit_code is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return run


def _update(target: dict[str, Any], items: Any) -> None:
    for item in items:
        target[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
