"""From measurements to the numbers that are shown and recorded, a row for each case and batch size."""

from __future__ import annotations

from typing import Any

from vlmprune.measure.encoder import Encoded, Uncountable
from vlmprune.measure.flops import Flops, question_flops
from vlmprune.measure.latency import summarise
from vlmprune.models.loading import Loaded
from vlmprune.speed.cases import Case, Refused
from vlmprune.speed.ceiling import Ceiling
from vlmprune.speed.measuring import Measured
from vlmprune.speed.settings import Load

MEASURED, OUT_OF_MEMORY, NOT_APPLICABLE = "measured", "out of memory", "not applicable"
TIMES = ("prefill", "first_token", "decode_per_token", "end_to_end")  # of which there are speed-ups

ROW_SCHEMA = {
    "state": f"{MEASURED}, {OUT_OF_MEMORY} or {NOT_APPLICABLE}; of the last two `reason` may say more",
    "label, ratio, keep, batch_size": "as asked for; every row is compared with the unpruned one of its batch size",
    "tokens": "of one prompt: text, visual (unpruned), kept (at the last decoder layer), layer_averaged, sequence",
    "flops": "of one question, FLOP = 2 MAC: vision, projector, selection, prefill, decode, total, and first_token "
    "(all but decode); null where they cannot be counted, and flops_unknown says why",
    "ms": "of the whole batch, for each part median_ms, p90_ms and n: vision, selection, projector, prefill (with all "
    "selection), first_token (all up to its logits), decode_per_token (one step), other, end_to_end; compiled, what is "
    "read inside the encoder is part of vision",
    "peak_memory_mb, peak_memory_since": "most of all timed calls: torch's allocator on a GPU, the resident set on a "
    "CPU; since its reset before each call, or since process start; with the caches that compiled cases keep",
    "kv_cache_bytes": "of the whole batch's prompts after prefill, without what a static cache has beyond them",
    "speed_up": "median ms unpruned / median ms here: prefill, first_token, decode_per_token, end_to_end",
    "flops_ratio": "FLOPs to the first token, unpruned / here: the theoretical speed-up",
    "realised": "speed_up of first_token / flops_ratio",
    "flops_per_s, of_flops_ceiling": "FLOPs to the first token / its time, and as a share of the matrix product's",
    "bytes_per_step": "what a decode step must read at least: weights of decoder and head, and the mean KV cache",
    "bytes_per_s, of_bandwidth_ceiling": "bytes_per_step / decode_per_token, and as a share of the copy's",
}


def make_rows(
    measured: list[Measured], encoded: Encoded, loaded: Loaded, load: Load, ceiling: Ceiling, weights: int
) -> list[dict[str, Any]]:
    """Rows of one batch size, the first of them unpruned. weights: bytes that every decode step reads of the model."""
    rows = [_row(one, encoded, loaded, load, ceiling, weights) for one in measured]
    for row in rows:
        _against(row, rows[0])
    return rows


def refused_row(refused: Refused) -> dict[str, Any]:
    """The row of a case that was never run."""
    return _named(refused, None, NOT_APPLICABLE) | {"reason": refused.reason}


def _named(case: Case | Refused, batch_size: int | None, state: str) -> dict[str, Any]:
    return {"state": state, "label": case.label, "ratio": case.ratio, "keep": case.keep, "batch_size": batch_size}


def _row(one: Measured, encoded: Encoded, loaded: Loaded, load: Load, ceiling: Ceiling, weights: int) -> dict[str, Any]:
    if one.out_of_memory or one.record is None:
        return _named(one.case, one.batch_size, OUT_OF_MEMORY)
    visual = [counts[0] for counts in one.record.visual_counts]
    words = load.prompt_tokens
    ms = summarise(one.times)
    row = _named(one.case, one.batch_size, MEASURED) | {
        "tokens": {
            "text": words,
            "visual": encoded.slots,
            "kept": visual[-1],
            "layer_averaged": sum(visual) / len(visual),
            "sequence": words + visual[0],
        },
        **_flops(one, encoded, loaded, load, visual, words),
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
    one: Measured, encoded: Encoded, loaded: Loaded, load: Load, visual: list[int], words: int
) -> dict[str, Any]:
    clip = None if one.case.text_tower is None else one.case.text_tower.config
    try:
        flops = question_flops(loaded.adapter, one.case.method, encoded, visual, words, load.new_tokens, clip)
    except Uncountable as error:
        return {"flops": None, "flops_unknown": str(error)}
    return {"flops": flops.as_dict() | {"first_token": first_token_flops(flops)}}


def first_token_flops(flops: Flops) -> float:
    """All that is computed before the first token is known."""
    return flops.total - flops.decode


def _against(row: dict[str, Any], unpruned: dict[str, Any]) -> None:
    """Fill in what compares a row with the unpruned one, where both were measured."""
    if {row["state"], unpruned["state"]} != {MEASURED}:
        return
    timed = [part for part in TIMES if row["ms"][part] is not None]
    row["speed_up"] = {part: _seconds(unpruned["ms"], part) / _seconds(row["ms"], part) for part in timed}
    if row["flops"] is not None:
        row["flops_ratio"] = unpruned["flops"]["first_token"] / row["flops"]["first_token"]
        row["realised"] = row["speed_up"]["first_token"] / row["flops_ratio"]


def _seconds(ms: dict[str, Any], part: str) -> float:
    return ms[part]["median_ms"] / 1e3
