"""A row as plain data for JSON and CSV, and the meaning of each field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlmprune.report.comparisons import Compared
    from vlmprune.report.rows import Row

PARTS = ("vision", "selection", "projector", "prefill", "first_token", "decode_per_token", "end_to_end")  # timed

FIELDS = {
    "method": "name of the choice; none is the unpruned model",
    "label": "method, with the settings that tell this run from others of the method",
    "ratio": "fraction of visual tokens to remove, as asked for; null where keep was given, or neither",
    "keep": "visual tokens to keep, as asked for; null where ratio was given, or neither",
    "tokens_total": "visual tokens of a question before pruning, mean",
    "tokens_kept": "visual tokens of a question in the last decoder layer, mean",
    "tokens_layer_averaged": "visual tokens of a question, mean over the decoder's layers, mean",
    "positions_limit": "positions of the decoder; null where they are not known",
    "positions_longest": "the most that a question takes of them with its answer",
    "questions_beyond": "questions that take more than positions_limit; null where that is not known",
    "metric": "the benchmark's main metric",
    "score": "the main metric, a fraction of 1; null until the answers are judged",
    "score_low": "lower end of its 95 % interval: percentile bootstrap, images drawn with all of their questions",
    "score_high": "upper end of its 95 % interval",
    "samples": "questions that were answered",
    "relative_score": "score over that of the unpruned run of the same group",
    "relative_to_questions_beyond": "whether the unpruned run has questions_beyond: relative_score then flatters",
    "versus_unpruned": "mean of (score - unpruned score) over the same questions, a fraction of 1",
    "versus_unpruned_low": "lower end of its 95 % interval: bootstrap of the differences, images drawn",
    "versus_unpruned_high": "upper end of its 95 % interval",
    "versus_unpruned_p": "two-sided p of no difference: sign flips over images, Holm-corrected over the runs shown "
    "of this group that are compared with the unpruned one",
    "versus_random": "the same against random pruning at the same layer-averaged tokens (within 0.5, or 1 %), several "
    "seeds as their mean; null where no such run exists",
    "versus_random_low": "lower end of its 95 % interval",
    "versus_random_high": "upper end of its 95 % interval",
    "versus_random_p": "its p, Holm-corrected over the runs shown of this group that are compared with random pruning",
    "flops_per_question": "vision, projector, selection, prefill and decode; 2 per multiply-add",
    "flops_unpruned": "the same of the unpruned model on the same questions and answers",
    "latency_unpruned_prefill_ms": "median prefill of the unpruned model, measured in turn in the same run",
    "prefill_speed_up": "latency_unpruned_prefill_ms / latency_prefill_ms",
    "latency_vision_ms": "median ms of the vision tower at batch 1",
    "latency_selection_ms": "median ms of the method's selection at batch 1; part of prefill",
    "latency_projector_ms": "median ms of the projector at batch 1",
    "latency_prefill_ms": "median ms of the decoder's first pass with all of the selection, at batch 1",
    "latency_first_token_ms": "median ms up to the first token's logits, at batch 1",
    "latency_decode_per_token_ms": "median ms of a decode step at batch 1; null where nothing was decoded",
    "latency_end_to_end_ms": "median ms of a whole answer at batch 1",
    "kv_cache_mb": "keys and values of one question after prefill, 10^6 bytes",
    "peak_memory_mb": "peak of the evaluation, 2^20 bytes: the GPU's, or on a CPU the process's with the weights",
    "pareto": "nothing shown scores as well for fewer FLOPs, or better for as many",
    "device": "where it ran",
    "dtype": "of the weights",
    "attention": "kernel",
    "path": "run directory",
}


def as_dict(row: Row) -> dict[str, Any]:
    """Return a row as plain data with a value for every one of FIELDS; None if unknown."""
    run = row.run
    return {
        "method": run.method,
        "label": row.label,
        "ratio": run.ratio,
        "keep": run.keep,
        "tokens_total": run.total,
        "tokens_kept": run.kept,
        "tokens_layer_averaged": run.layer_averaged,
        "positions_limit": run.limit,
        "positions_longest": run.longest,
        "questions_beyond": run.beyond,
        "metric": run.metric,
        "score": run.score,
        "score_low": run.low,
        "score_high": run.high,
        "samples": run.samples,
        "relative_score": row.relative,
        "relative_to_questions_beyond": row.flattered,
        **_compared("versus_unpruned", row.versus_unpruned),
        **_compared("versus_random", row.versus_random),
        "flops_per_question": run.flops,
        "flops_unpruned": run.unpruned_flops,
        "latency_unpruned_prefill_ms": run.unpruned_ms.get("prefill"),
        "prefill_speed_up": row.speed_up,
        **{f"latency_{part}_ms": run.pruned_ms.get(part) for part in PARTS},
        "kv_cache_mb": None if run.kv_cache_bytes is None else run.kv_cache_bytes / 1e6,
        "peak_memory_mb": run.peak_memory_mb,
        "pareto": row.front,
        "device": run.environment.get("device"),
        "dtype": run.environment.get("dtype"),
        "attention": run.environment.get("attention"),
        "path": str(run.path),
    }


def _compared(name: str, compared: Compared | None) -> dict[str, float | None]:
    if compared is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high", f"{name}_p"))
    difference = compared.difference
    return {
        name: difference.mean,
        f"{name}_low": difference.low,
        f"{name}_high": difference.high,
        f"{name}_p": compared.p,
    }
