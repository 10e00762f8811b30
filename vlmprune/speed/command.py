"""`vlmprune speed`: what pruning saves on a fixed synthetic load; no dataset, and with random weights no download."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vlmprune.batching import is_out_of_memory
from vlmprune.environment import git_commit, versions
from vlmprune.errors import UserError
from vlmprune.files import check_writable, to_json, write_atomically
from vlmprune.generation import read_rules
from vlmprune.measure.conditions import conditions
from vlmprune.measure.memory import decoder_bytes
from vlmprune.models.clip_text import load_text_tower
from vlmprune.models.loading import Loaded, load
from vlmprune.plan import model_name
from vlmprune.progress import progress_bar, say
from vlmprune.pruning.adapter import TextTower
from vlmprune.speed.cases import Plan, plan
from vlmprune.speed.ceiling import measure_ceiling
from vlmprune.speed.chart import speed_chart
from vlmprune.speed.measuring import Bench
from vlmprune.speed.rows import ROW_SCHEMA, make_rows, refused_row
from vlmprune.speed.settings import Request, parse
from vlmprune.speed.synthetic import make_prompts
from vlmprune.speed.tables import show

SPEED_SCHEMA = {
    "schema": "1",
    "command": "as typed",
    "model": "name, checkpoint (its identity), random_weights",
    "load": "speed.* settings: the synthetic load",
    "conditions": "device, device_name, dtype, attention, threads, clocks_mhz right after the last timed call",
    "ceiling": "of the device: flops (FLOP/s of a matrix product of `side`), bandwidth (bytes/s of a copy, read and "
    "written)",
    "rows": ROW_SCHEMA,
    "versions, git": "of the libraries, and the commit of vlmprune",
    "finished": "UTC date and time",
}


def speed(settings: list[str], config_dir: str | None) -> int:
    """Measure, show, and write JSON and chart; returns the exit code. Raises UserError for bad input."""
    request = parse(settings)
    planned = plan(request, config_dir)
    rules = read_rules(planned.checkpoint)
    started = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = Path(planned.config.outputs) / "speed" / model_name(planned.config)
    file, chart = request.json or folder / f"{started}.json", request.chart or folder / f"{started}.png"
    check_writable("json", file)
    check_writable("chart", chart)
    if line := rules.told(request.load.new_tokens):
        say(line)
    result = measure(planned, request) | {"command": shlex.join(["vlmprune", "speed", *settings])}
    try:
        write_atomically(file, to_json(result))
        speed_chart(result, chart)
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error})") from error
    finally:  # what took minutes to measure is not lost on a full disk
        show(result, request.format)
    say(f"\nfiles  {file}\nchart  {chart}")
    return 0


def measure(planned: Plan, request: Request) -> dict[str, Any]:
    """The whole result, as SPEED_SCHEMA has it, but for the command."""
    ceiling = measure_ceiling(planned.device, planned.dtype)  # while the device's memory is free
    loaded = load_model(planned)
    sources = {case.text_tower.identity: case.text_tower for case in planned.cases if case.text_tower is not None}
    towers: dict[str, TextTower] = {
        identity: load_text_tower(source, planned.device) for identity, source in sources.items()
    }
    cases, rows = planned.cases, []
    total = Bench.calls(len(cases), len(planned.batch_sizes), request.load)
    with progress_bar(f"{len(cases)} ways on {model_name(planned.config)}", total, unit="calls") as advance:
        bench = Bench(loaded, towers, request.load, advance)
        for batch_size in planned.batch_sizes:
            prompts = make_prompts(loaded, request.load, batch_size)
            measured = bench.measure(cases, prompts)
            weights = decoder_bytes(loaded.adapter)
            rows += make_rows(measured, prompts.encoded, loaded, request.load, ceiling, weights)
    return {
        "schema": 1,
        "model": {
            "name": model_name(planned.config),
            "checkpoint": planned.checkpoint.identity,
            "random_weights": planned.checkpoint.random,
        },
        "load": asdict(request.load),
        "conditions": conditions(loaded.model),
        "ceiling": asdict(ceiling),
        "rows": [*rows, *map(refused_row, planned.refused)],
        "versions": versions(),
        "git": git_commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def load_model(planned: Plan) -> Loaded:
    """The model. Raises UserError where it does not fit on the device."""
    try:
        return load(planned.checkpoint, planned.config.model, planned.dtype, planned.device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        name = model_name(planned.config)
        raise UserError(f"model={name}: its weights do not fit on {planned.device}; try model.dtype=float16") from error
