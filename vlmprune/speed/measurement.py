"""The whole of a speed measurement: a model is loaded, and every case measured on every batch size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from vlmprune.engine.adapter import TextRelevance
from vlmprune.errors import UserError
from vlmprune.evaluation.plan import model_name
from vlmprune.machine import is_memory_error
from vlmprune.measure.environment import describe_conditions, git_commit, versions
from vlmprune.measure.memory import decoder_bytes
from vlmprune.models import loading
from vlmprune.models.clip_text import load_text_tower
from vlmprune.models.loading import LoadedModel
from vlmprune.speed import Load
from vlmprune.speed.bench import Bench, measure_ceiling
from vlmprune.speed.load import SpeedPlan, make_batch
from vlmprune.speed.rows import make_rows, refusal_row
from vlmprune.terminal import progress_bar


def measure(planned: SpeedPlan, load: Load) -> Iterator[dict[str, Any]]:
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
        "load": asdict(load),
        "ceiling": asdict(ceiling),
        "versions": versions(),
        "git": git_commit(),
    }
    total = Bench.calls(cases, len(planned.batch_sizes), load)
    with progress_bar(f"{len(cases)} ways on {model_name(planned.config)}", total, unit="calls") as advance:
        bench = Bench(loaded, towers, load, advance)
        for batch_size in planned.batch_sizes:
            prompts = make_batch(loaded, load, batch_size)
            for measured in bench.measure(cases, prompts):
                rows = make_rows(measured, prompts.encoded, loaded, load, ceiling, weights)
                yield about | {
                    "conditions": describe_conditions(loaded.model),
                    "rows": [*done, *rows, *map(refusal_row, planned.refusals)],
                    "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                }
            done += rows


def load_model(planned: SpeedPlan) -> LoadedModel:
    """Load the model. Raise UserError if its weights do not fit on the device."""
    try:
        return loading.load(planned.checkpoint, planned.config.model, planned.dtype, planned.device)
    except RuntimeError as error:
        if not is_memory_error(error):
            raise
        name = model_name(planned.config)
        raise UserError(f"model={name}: its weights do not fit on {planned.device}; try model.dtype=float16") from error
