"""Columns of the comparison: titles, meanings and cells for people, fields for json and csv."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlmprune.results.comparison import CorrectedDifference, Row
    from vlmprune.results.runs import Run


@dataclass(frozen=True)
class Column:
    """A column. key: name in columns=; about: clause for the legend; cell: a row's text; value: a row's sort value."""

    key: str
    title: str
    about: str
    cell: Callable[[Row], str]
    value: Callable[[Row], float | str | None]

    @property
    def numeric(self) -> bool:
        return self.key not in ("front", "method")


BEYOND = "!"  # marks figures over questions that are longer than the decoder's positions
TEST = "p by sign flips over images, Holm-corrected over this column of the table"
# Columns that are dropped in this order if the terminal is too narrow; all others stay.
DROPPABLE = (
    "peak_memory",
    "kv_cache",
    "end_to_end",
    "decode",
    "layer_avg",
    "relative",
    "prefill",
    "vs_unpruned",
    "vs_random",
)
KEYS = ("front", "method", "ratio", "kept", "layer_avg", "score", "relative", "vs_unpruned", "vs_random", "flops",
        "prefill", "decode", "end_to_end", "kv_cache", "peak_memory")  # fmt: skip


def columns_for(rows: Iterable[Row], keys: Iterable[str] = KEYS) -> list[Column]:
    """Return the columns named by `keys`, in their order; FLOPs have the unit that suits `rows`."""
    flops = [row.run.flops for row in rows if row.run.flops is not None]
    unit, one = ("TFLOPs", 1e12) if flops and max(flops) >= 1e12 else ("GFLOPs", 1e9)
    every = [
        Column(
            "front",
            "",
            "on the Pareto front: nothing here scores as well for fewer FLOPs, or better for as many",
            lambda row: "*" if row.front else "",
            lambda row: float(row.front),
        ),
        Column("method", "method", "", lambda row: row.name, lambda row: row.name),
        Column("ratio", "ratio", "visual tokens to remove, as asked for", lambda row: row.run.amount, _reduction),
        Column(
            "kept",
            "kept",
            "visual tokens left in the last layer, of all",
            lambda row: f"{row.run.kept:.4g}/{row.run.total:.4g}",
            lambda row: row.run.kept,
        ),
        Column(
            "layer_avg",
            "layer avg",
            "visual tokens, mean over decoder layers",
            lambda row: f"{row.run.layer_averaged:.1f}",
            lambda row: row.run.layer_averaged,
        ),
        Column(
            "score",
            "score % [95 %]",
            "interval: bootstrap over images",
            lambda row: score_text(row.run) + BEYOND * bool(row.run.beyond),
            lambda row: row.run.score,
        ),
        Column(
            "relative",
            "relative",
            "score over the unpruned run's here",
            lambda row: (
                "-" if row.relative is None else f"{100 * row.relative:.1f} %{BEYOND * row.unpruned_beyond_positions}"
            ),
            lambda row: row.relative,
        ),
        Column(
            "vs_unpruned",
            "vs unpruned (p)",
            f"points above the unpruned run on the same questions; {TEST}",
            lambda row: difference_text(row.versus_unpruned),
            lambda row: None if row.versus_unpruned is None else row.versus_unpruned.difference.mean,
        ),
        Column(
            "vs_random",
            "vs random (p)",
            f"points above random pruning at equal layer-averaged tokens, '-' where there is none; {TEST}",
            lambda row: difference_text(row.versus_random),
            lambda row: None if row.versus_random is None else row.versus_random.difference.mean,
        ),
        Column(
            "flops",
            unit,
            "a question, vision to last answer token; 2 per multiply-add",
            lambda row: format_number(None if row.run.flops is None else row.run.flops / one),
            lambda row: row.run.flops,
        ),
        Column(
            "prefill",
            "prefill ms",
            "median at batch 1, with all of the selection; speed-up over unpruned in the same run",
            _prefill,
            lambda row: row.run.pruned_ms.get("prefill"),
        ),
        _time_column("decode", "decode ms", "median of one token", "decode_per_token"),
        _time_column("end_to_end", "end to end ms", "median of a whole answer", "end_to_end"),
        Column(
            "kv_cache",
            "KV MB",
            "keys and values of one prompt",
            lambda row: format_number(None if row.run.kv_cache_bytes is None else row.run.kv_cache_bytes / 1e6),
            lambda row: row.run.kv_cache_bytes,
        ),
        Column(
            "peak_memory",
            "peak MB",
            "memory at the evaluation's batch size: the GPU's, or on a CPU the process's",
            lambda row: format_number(row.run.peak_memory_mb),
            lambda row: row.run.peak_memory_mb,
        ),
    ]
    wanted = list(keys)
    return [column for key in wanted for column in every if column.key == key]


def column_legend(columns: Iterable[Column]) -> list[tuple[str, str]]:
    """Return (title, meaning) of every column whose title needs an explanation."""
    return [(column.title or "*", column.about) for column in columns if column.about]


def score_text(run: Run) -> str:
    """Return the score in percent with its interval, or 'not judged'."""
    if run.score is None:
        return "not judged"
    if run.low is None or run.high is None:
        return f"{100 * run.score:.1f}"
    return f"{100 * run.score:.1f} [{100 * run.low:.1f}, {100 * run.high:.1f}]"


def difference_text(compared: CorrectedDifference | None) -> str:
    """Return the difference in points with the corrected p value; '-' for None."""
    if compared is None:
        return "-"
    return f"{100 * compared.difference.mean:+.1f} ({'<0.001' if compared.p < 0.001 else f'{compared.p:.3f}'})"


def format_number(value: float | None) -> str:
    """Return a value with about three significant digits, '-' for None."""
    if value is None:
        return "-"
    decimals = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{decimals}f}"


def _time_column(key: str, title: str, about: str, part: str) -> Column:
    return Column(
        key,
        title,
        about,
        lambda row: format_number(row.run.pruned_ms.get(part)),
        lambda row: row.run.pruned_ms.get(part),
    )


def _prefill(row: Row) -> str:
    speed_up = "" if row.speed_up is None else f" ({row.speed_up:.2f}x)"
    return format_number(row.run.pruned_ms.get("prefill")) + speed_up


def _reduction(row: Row) -> float:
    return 0.0 if row.run.is_unpruned else row.run.reduction


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


def row_fields(row: Row) -> dict[str, Any]:
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
        "relative_to_questions_beyond": row.unpruned_beyond_positions,
        **_difference_fields("versus_unpruned", row.versus_unpruned),
        **_difference_fields("versus_random", row.versus_random),
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


def _difference_fields(name: str, compared: CorrectedDifference | None) -> dict[str, float | None]:
    if compared is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high", f"{name}_p"))
    difference = compared.difference
    return {
        name: difference.mean,
        f"{name}_low": difference.low,
        f"{name}_high": difference.high,
        f"{name}_p": compared.p,
    }
