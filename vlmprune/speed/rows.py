"""A model's speed: its result, with a row for each case and batch size, computed from the measurements."""

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
from vlmprune.measure.flops import Flops, question_flops
from vlmprune.measure.latency import summarise
from vlmprune.measure.memory import decoder_bytes
from vlmprune.models import loading
from vlmprune.models.base import EncoderInput, UncountableFlops
from vlmprune.models.clip_text import load_text_tower
from vlmprune.models.loading import LoadedModel
from vlmprune.speed import Load
from vlmprune.speed.bench import Bench, Ceiling, Measurement, measure_ceiling
from vlmprune.speed.load import Case, Refusal, SpeedPlan, make_batch
from vlmprune.speed.result_schema import MEASURED, NOT_APPLICABLE, OUT_OF_MEMORY, add_timing_doubts
from vlmprune.terminal import progress_bar

TIMES = ("prefill", "first_token", "decode_per_token", "end_to_end")  # parts with a speed-up


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


def make_rows(
    measurements: list[Measurement],
    encoded: EncoderInput,
    loaded: LoadedModel,
    load: Load,
    ceiling: Ceiling,
    weights: int,
) -> list[dict[str, Any]]:
    """Return the rows of one batch size, the first unpruned. weights: bytes of the model that a decode step reads."""
    rows = [_row(one, encoded, loaded, load, ceiling, weights) for one in measurements]
    for row in rows:
        _add_comparison(row, rows[0])
    add_timing_doubts(rows)
    return rows


def refusal_row(refusal: Refusal) -> dict[str, Any]:
    """Return the row of a case that the model cannot run."""
    return _common_fields(refusal, None, NOT_APPLICABLE) | {"reason": refusal.reason}


def _common_fields(case: Case | Refusal, batch_size: int | None, state: str) -> dict[str, Any]:
    return {"state": state, "label": case.label, "ratio": case.ratio, "keep": case.keep, "batch_size": batch_size}


def _row(
    one: Measurement, encoded: EncoderInput, loaded: LoadedModel, load: Load, ceiling: Ceiling, weights: int
) -> dict[str, Any]:
    if one.out_of_memory or one.record is None:
        return _common_fields(one.case, one.batch_size, OUT_OF_MEMORY)
    visual = [counts[0] for counts in one.record.visual_counts]
    text_tokens = load.prompt_tokens
    ms = summarise(one.times)
    row = _common_fields(one.case, one.batch_size, MEASURED) | {
        "tokens": {
            "text": text_tokens,
            "visual": encoded.slots,
            "kept": visual[-1],
            "layer_averaged": sum(visual) / len(visual),
            "sequence": text_tokens + visual[0],
        },
        **_flops(one, encoded, loaded, load, visual, text_tokens),
        "ms": ms,
        "peak_memory_mb": one.peak_mb,
        "peak_memory_since": one.peak_since,
        "kv_cache_bytes": one.cache_bytes,
    }
    if row["flops"] is not None:
        rate = row["flops"]["first_token"] * one.batch_size / _seconds(ms, "first_token")
        row |= {"flops_per_s": rate, "of_flops_ceiling": rate / ceiling.flops}
    if ms["decode_per_token"] is not None:
        step = weights + one.cache_bytes + one.cache_bytes_per_token * load.new_tokens / 2
        rate = step / _seconds(ms, "decode_per_token")
        row |= {"bytes_per_step": step, "bytes_per_s": rate, "of_bandwidth_ceiling": rate / ceiling.bandwidth}
    return row


def _flops(
    one: Measurement, encoded: EncoderInput, loaded: LoadedModel, load: Load, visual: list[int], text_tokens: int
) -> dict[str, Any]:
    clip = None if one.case.text_tower is None else one.case.text_tower.config
    try:
        flops = question_flops(loaded.adapter, one.case.method, encoded, visual, text_tokens, load.new_tokens, clip)
    except UncountableFlops as error:
        return {"flops": None, "flops_unknown": str(error)}
    return {"flops": flops.as_dict() | {"first_token": first_token_flops(flops)}}


def first_token_flops(flops: Flops) -> float:
    """Return the FLOPs up to the first token: all but decode."""
    return flops.total - flops.decode


def _add_comparison(row: dict[str, Any], unpruned: dict[str, Any]) -> None:
    """Add speed-ups and the FLOPs ratio to a row, if it and the unpruned row were measured."""
    if {row["state"], unpruned["state"]} != {MEASURED}:
        return
    timed = [part for part in TIMES if row["ms"][part] is not None]
    row["speed_up"] = {part: _seconds(unpruned["ms"], part) / _seconds(row["ms"], part) for part in timed}
    if row["flops"] is not None:
        row["flops_ratio"] = unpruned["flops"]["first_token"] / row["flops"]["first_token"]
        row["realised"] = row["speed_up"]["first_token"] / row["flops_ratio"]


def _seconds(ms: dict[str, Any], part: str) -> float:
    if not (seconds := ms[part]["median_ms"] / 1e3):
        raise UserError(f"{part} took no time by this machine's clock, which stands still or goes back")
    return seconds
