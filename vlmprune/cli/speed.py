"""`vlmprune speed`: time, FLOPs and memory of methods on a fixed synthetic load, without a dataset."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vlmprune.engine.adapter import TextRelevance
from vlmprune.errors import UserError, error_text
from vlmprune.evaluation.generation import read_rules
from vlmprune.evaluation.plan import model_name
from vlmprune.files import check_writable, to_json, write_atomically
from vlmprune.machine import is_memory_error
from vlmprune.measure.environment import describe_conditions, git_commit, versions
from vlmprune.measure.memory import decoder_bytes
from vlmprune.models.clip_text import load_text_tower
from vlmprune.models.loading import LoadedModel, load
from vlmprune.speed.bench import Bench, measure_ceiling
from vlmprune.speed.load import NONE, SpeedPlan, SpeedRequest, make_batch, plan_cases, read_speed_request
from vlmprune.speed.output import print_result, speed_chart
from vlmprune.speed.result_schema import SpeedResult
from vlmprune.speed.rows import make_rows, refusal_row
from vlmprune.terminal import progress_bar, say
from vlmprune.typed_json import read_json


def speed(settings: list[str], config_dir: str | None) -> int:
    """Measure, print the result, and write JSON and chart; return the exit code. Raise UserError for bad input."""
    request = read_speed_request(settings)
    if request.source is not None:
        return print_stored(request.source, request)
    planned = plan_cases(request, config_dir)
    rules = read_rules(planned.checkpoint, planned.config.model.generation)
    started = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = Path(planned.config.outputs) / "speed" / model_name(planned.config)
    file, chart = request.json or folder / f"{started}.json", request.chart or folder / f"{started}.png"
    check_writable("json", file)
    if chart != NONE:
        check_writable("chart", chart)
    if line := rules.summary_line(request.load.new_tokens):
        say(line)
    result: dict[str, Any] = {}
    try:
        for rows in measure(planned, request):
            result = rows | {"command": shlex.join(["vlmprune", "speed", *settings])}
            write_atomically(file, to_json(result))
        if chart != NONE:
            speed_chart(result, chart)
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error})") from error
    finally:  # print what was measured so far, also if the disk is full or a later measurement fails
        if result:
            print_result(result, request.format)
    say(f"\nfiles  {file}" + (f"\nchart  {chart}" if chart != NONE else ""))
    return 0


def print_stored(source: Path, request: SpeedRequest) -> int:
    """Print a stored result and draw its chart, beside it unless chart= gives another file; return the exit code."""
    try:
        result = dict(read_json(source, SpeedResult))
    except (OSError, ValueError) as error:
        raise UserError(f"from={source}: is no result of vlmprune speed ({error_text(error)})") from error
    print_result(result, request.format)
    chart = request.chart or source.with_suffix(".png")
    if chart != NONE:
        check_writable("chart", chart)
        speed_chart(result, chart)
        say(f"\nchart  {chart}")
    return 0


def measure(planned: SpeedPlan, request: SpeedRequest) -> Iterator[dict[str, Any]]:
    """Yield the whole result so far after every round: a `SpeedResult` without `command`."""
    ceiling = measure_ceiling(planned.device, planned.dtype)  # before the model takes the device's memory
    loaded = load_model(planned)
    sources = {case.text_tower.identity: case.text_tower for case in planned.cases if case.text_tower is not None}
    towers: dict[str, TextRelevance] = {
        identity: load_text_tower(source, planned.device) for identity, source in sources.items()
    }
    cases, done = planned.cases, list[dict[str, Any]]()
    weights = decoder_bytes(loaded.adapter)
    about = {
        "schema": 1,
        "model": {
            "name": model_name(planned.config),
            "checkpoint": planned.checkpoint.identity,
            "random_weights": planned.checkpoint.random,
            "limits": loaded.preprocessor.limits,
        },
        "load": asdict(request.load),
        "ceiling": asdict(ceiling),
        "versions": versions(),
        "git": git_commit(),
    }
    total = Bench.calls(cases, len(planned.batch_sizes), request.load)
    with progress_bar(f"{len(cases)} ways on {model_name(planned.config)}", total, unit="calls") as advance:
        bench = Bench(loaded, towers, request.load, advance)
        for batch_size in planned.batch_sizes:
            prompts = make_batch(loaded, request.load, batch_size)
            for measured in bench.measure(cases, prompts):
                rows = make_rows(measured, prompts.encoded, loaded, request.load, ceiling, weights)
                yield about | {
                    "conditions": describe_conditions(loaded.model),
                    "rows": [*done, *rows, *map(refusal_row, planned.refusals)],
                    "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                }
            done += rows


def load_model(planned: SpeedPlan) -> LoadedModel:
    """Load the model. Raise UserError if its weights do not fit on the device."""
    try:
        return load(planned.checkpoint, planned.config.model, planned.dtype, planned.device)
    except RuntimeError as error:
        if not is_memory_error(error):
            raise
        name = model_name(planned.config)
        raise UserError(f"model={name}: its weights do not fit on {planned.device}; try model.dtype=float16") from error
