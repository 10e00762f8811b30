"""Columns of the comparison for people, and its fields for json and csv, each with its meaning."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vlmprune.results.find import method_settings
from vlmprune.results.runs import Run
from vlmprune.results.tables import Column
from vlmprune.results.text import format_difference, format_number, format_percent, format_score, terminal_line
from vlmprune.results.timing import DOUBTFUL, MOST_APART, MOST_SPREAD

if TYPE_CHECKING:
    from vlmprune.results.comparison import CorrectedDifference, Row

METHOD = "method"  # title of the column
BEYOND = "!"  # marks figures over questions that are longer than the decoder's positions
TEST = "p by sign flips over images, Holm-corrected over this column of the table"


def _mean(compared: CorrectedDifference | None) -> float | None:
    return None if compared is None else compared.difference.mean


def _number(
    title: str, about: str, value: Callable[[Row], float | None], droppable: int = 0, unit: float = 1
) -> Column[Row]:
    """Return a column of numbers. unit: what `value` is divided by for the text."""

    def text(row: Row) -> str:
        found = value(row)
        return format_number(None if found is None else found / unit)

    return Column(title, text, about, droppable=droppable, value=value)


def _flops(title: str, unit: float) -> Column[Row]:
    return _number(
        title, "a question, vision to last answer token; 2 per multiply-add", lambda row: row.run.flops, 10, unit
    )


def _median(part: str) -> Callable[[Row], float | None]:
    return lambda row: row.run.pruned_ms.get(part)


def _prefill(row: Row) -> str:
    speed_up = "" if row.speed_up is None else f" ({row.speed_up:.2f}x)"
    return format_number(row.run.pruned_ms.get("prefill")) + speed_up + DOUBTFUL * (row.timing_doubt is not None)


COLUMNS: dict[str, Column[Row]] = {  # by name in columns=
    "front": Column(
        "",
        lambda row: "*" if row.front else "",
        "on the Pareto front: nothing here scores as well for fewer FLOPs, or better for as many",
        name="*",
        left=True,
        value=lambda row: float(row.front),
    ),
    "method": Column(METHOD, lambda row: "unpruned" if row.run.is_unpruned else row.run.method, left=True, fold=0),
    "ratio": Column(
        "ratio",
        lambda row: row.run.amount,
        "visual tokens to remove, as requested",
        value=lambda row: 0.0 if row.run.is_unpruned else row.run.reduction,
    ),
    "kept": Column(
        "kept",
        lambda row: row.run.kept_text,
        "visual tokens left in the last layer, of all",
        value=lambda row: row.run.kept,
    ),
    "layer_avg": Column(
        "layer avg",
        lambda row: f"{row.run.layer_averaged:.1f}",
        "visual tokens, mean over decoder layers",
        droppable=12,
        value=lambda row: row.run.layer_averaged,
    ),
    "score": Column(
        "score % [95 %]",
        lambda row: (
            format_score(row.run.score, row.run.low, row.run.high, row.run.score_sd) + BEYOND * bool(row.run.beyond)
        ),
        "interval: bootstrap over images; a mean over seeds has ± their standard deviation",
        value=lambda row: row.run.score,
    ),
    "relative": Column(
        "relative",
        lambda row: format_percent(row.relative) + BEYOND * row.unpruned_beyond_positions,
        "score over the unpruned run's here",
        droppable=11,
        value=lambda row: row.relative,
    ),
    "vs_unpruned": Column(
        "vs unpruned (p)",
        lambda row: format_difference(row.versus_unpruned),
        f"points above the unpruned run on the same questions; {TEST}",
        droppable=5,
        value=lambda row: _mean(row.versus_unpruned),
    ),
    "vs_random": Column(
        "vs random (p)",
        lambda row: format_difference(row.versus_random),
        f"points above random pruning at equal layer-averaged tokens, '-' where there is none; {TEST}",
        droppable=6,
        value=lambda row: _mean(row.versus_random),
    ),
    "flops": _flops("GFLOPs", 1e9),
    "prefill": Column(
        "prefill ms",
        _prefill,
        "median at batch 1, with all of the selection; speed-up over unpruned in the same run",
        droppable=8,
        value=_median("prefill"),
    ),
    "decode": _number("decode ms", "median of one token", _median("decode_per_token"), 4),
    "end_to_end": _number("end to end ms", "median of a whole answer", _median("end_to_end"), 3),
    "kv_cache": _number("KV MB", "keys and values of one prompt", lambda row: row.run.kv_cache_bytes, 2, unit=1e6),
    "peak_memory": _number(
        "peak MB",
        "memory at the evaluation's batch size: the GPU's, or on a CPU the process's",
        lambda row: row.run.peak_memory_mb,
        1,
    ),
}
KEYS = tuple(COLUMNS)
LATEX_KEYS = ("front", "method", "ratio", "layer_avg", "score", "relative", "vs_random", "flops")  # fit a page's width


SEEDS = Column[Any](
    "seeds",
    lambda row: "" if row.run.is_unpruned else str(len(row.run.seeds)),
    "runs that differ in the seed alone, whose mean a row shows",
    droppable=9,
    value=lambda row: len(row.run.seeds),
)


def columns_for(rows: Sequence[Row], keys: Iterable[str] = KEYS) -> list[Column[Row]]:
    """Return the columns named by `keys`, in their order; FLOPs have the unit that suits `rows`.

    After the method stand the settings in which runs of one method differ, and after the score the number of seeds, if
    a row has several.
    """
    large = any(row.run.flops is not None and row.run.flops >= 1e12 for row in rows)
    columns = COLUMNS | {"flops": _flops("TFLOPs", 1e12)} if large else COLUMNS
    after = {"method": [_setting_column(name, rows) for name in _setting_names(rows)]}
    if any(len(row.run.seeds) > 1 for row in rows):
        after["score"] = [SEEDS]
    return [column for key in keys for column in (columns[key], *after.get(key, ()))]


def _setting_names(rows: Iterable[Row]) -> list[str]:
    """Return the names of the settings that tell rows of one method apart, sorted."""
    return sorted({name for row in rows for name in row.settings})


def _setting_column(name: str, rows: Iterable[Row]) -> Column[Row]:
    methods = sorted({row.run.method for row in rows if name in row.settings})
    about = f"setting of {', '.join(methods)}, in which runs differ"
    return Column(name, lambda row: row.settings.get(name, ""), about, droppable=7, joins=METHOD)


PARTS = {
    "vision": "of the vision tower at batch 1",
    "selection": "of the method's selection at batch 1; part of prefill",
    "projector": "of the projector at batch 1",
    "prefill": "of the decoder's first pass with all of the selection, at batch 1",
    "first_token": "up to the first token's logits, at batch 1",
    "decode_per_token": "of a decode step at batch 1; null where nothing was decoded",
    "end_to_end": "of a whole answer at batch 1",
}


Fields = dict[str, tuple[Any, str]]  # (value, meaning) by name


def row_fields(row: Row) -> Fields:
    """Return a row as plain data: (value, meaning) by name, the same names for every row; None if unknown."""
    run, unpruned, random = row.run, row.versus_unpruned, row.versus_random
    return {
        "method": (run.method, "name of the choice; none is the unpruned model"),
        "label": (
            row.label,
            "method, with the settings, but for the seed, that tell this run from others of the method",
        ),
        "ratio": (
            run.ratio,
            "fraction of visual tokens to remove, as requested; null where keep was given, or neither",
        ),
        "keep": (run.keep, "visual tokens to keep, as requested; null where ratio was given, or neither"),
        "tokens_total": (run.total, "visual tokens of a question before pruning, mean"),
        "tokens_kept": (run.kept, "visual tokens of a question in the last decoder layer, mean"),
        "tokens_layer_averaged": (
            run.layer_averaged,
            "visual tokens of a question, mean over the decoder's layers, mean",
        ),
        "positions_limit": (run.limit, "positions of the decoder; null where they are not known"),
        "positions_longest": (run.longest, "the most that a question takes of them with its answer"),
        "questions_beyond": (run.beyond, "questions that take more than positions_limit; null where that is not known"),
        "metric": (run.metric, "the benchmark's main metric"),
        "seeds": (
            len(run.seeds),
            "runs that differ in the seed alone, whose mean this row is: figures are means over them, times medians",
        ),
        "score": (run.score, "the main metric, a fraction of 1; null until the answers are judged"),
        "score_low": (
            run.low,
            "lower end of its 95 % interval: percentile bootstrap, images drawn with all of their questions; of "
            "several seeds, of each question's mean over them; of none or all right Clopper-Pearson, over images",
        ),
        "score_high": (run.high, "upper end of its 95 % interval"),
        "score_sd": (run.score_sd, "standard deviation of the score over the seeds (n - 1); null for one seed"),
        "samples": (run.samples, "questions that were answered"),
        "relative_score": (row.relative, "score over that of the unpruned run of the same group"),
        "relative_to_questions_beyond": (
            row.unpruned_beyond_positions,
            "whether the unpruned run has questions_beyond: relative_score then flatters",
        ),
        "versus_unpruned": (
            unpruned and unpruned.difference.mean,
            "mean of (score - unpruned score) over the same questions, a fraction of 1",
        ),
        "versus_unpruned_low": (
            unpruned and unpruned.difference.low,
            "lower end of its 95 % interval: bootstrap of the differences, images drawn",
        ),
        "versus_unpruned_high": (unpruned and unpruned.difference.high, "upper end of its 95 % interval"),
        "versus_unpruned_p": (
            unpruned and unpruned.p,
            "two-sided p of no difference: sign flips over images, Holm-corrected over the runs shown of this group "
            "that are compared with the unpruned one",
        ),
        "versus_random": (
            random and random.difference.mean,
            "the same against random pruning at the same layer-averaged tokens (within 0.5, or 1 %), several seeds as "
            "their mean; null where no such run exists",
        ),
        "versus_random_low": (random and random.difference.low, "lower end of its 95 % interval"),
        "versus_random_high": (random and random.difference.high, "upper end of its 95 % interval"),
        "versus_random_p": (
            random and random.p,
            "its p, Holm-corrected over the runs shown of this group that are compared with random pruning",
        ),
        "flops_per_question": (run.flops, "vision, projector, selection, prefill and decode; 2 per multiply-add"),
        "flops_unpruned": (run.unpruned_flops, "the same of the unpruned model on the same questions and answers"),
        "latency_unpruned_prefill_ms": (
            run.unpruned_ms.get("prefill"),
            "median prefill of the unpruned model, measured in turn in the same run",
        ),
        "latency_unpruned_prefill_p90_ms": (run.unpruned_p90_ms.get("prefill"), "its 90th percentile"),
        "prefill_speed_up": (row.speed_up, "latency_unpruned_prefill_ms / latency_prefill_ms"),
        "timing_doubt": (
            row.timing_doubt and str(row.timing_doubt),
            f"why the prefill times are not to be trusted (p90 over {MOST_SPREAD}x the median, or an unpruned prefill "
            f"over {MOST_APART}x that of another run of the group on the same device); null if nothing speaks "
            "against them",
        ),
        **{
            name: pair
            for part, about in PARTS.items()
            for name, pair in (
                (f"latency_{part}_ms", (run.pruned_ms.get(part), f"median ms {about}")),
                (f"latency_{part}_p90_ms", (run.pruned_p90_ms.get(part), "its 90th percentile")),
            )
        },
        "kv_cache_mb": (
            None if run.kv_cache_bytes is None else run.kv_cache_bytes / 1e6,
            "keys and values of one question after prefill, 10^6 bytes",
        ),
        "peak_memory_mb": (
            run.peak_memory_mb,
            "peak of the evaluation, 2^20 bytes: the GPU's, or on a CPU the process's with the weights",
        ),
        "pareto": (
            row.front,
            "nothing shown scores as well for fewer FLOPs, or better for as many",
        ),
        "device": (_environment(run, "device"), "where it answered"),
        "latency_device": (run.timing_environment.get("device"), "where it was timed, last by `vlmprune time`"),
        "dtype": (_environment(run, "dtype"), "of the weights"),
        "attention": (_environment(run, "attention"), "kernel"),
        "path": (str(run.path), "run directory; of several seeds, that of the first one"),
    }


def _environment(run: Run, name: str) -> Any:
    """Return what is on record of the environment, with a comma between values in which seeds differ."""
    values = list(dict.fromkeys(str(each.environment.get(name)) for each in run.seeds))
    return ", ".join(values) if values[1:] else run.environment.get(name)


def table_fields(tables: Sequence[list[Row]]) -> list[list[Fields]]:
    """Return the fields of every row of each table; all have the settings in which runs of one method differ."""
    names = _setting_names(row for rows in tables for row in rows)
    return [[row_fields(row) | _setting_fields(row, names) for row in rows] for rows in tables]


def as_records(tables: Sequence[list[Row]]) -> list[dict[str, Any]]:
    """Return each row as one flat mapping, with its model, its benchmark and all in which tables may differ."""
    records = []
    for rows, fields in zip(tables, table_fields(tables), strict=True):
        run = rows[0].run
        table = {f"comparable_{name}": value for name, value in sorted(run.comparable.items())}
        for each in fields:
            values = {name: value for name, (value, _) in each.items()}
            records.append({"model": run.model, "benchmark": run.benchmark, **table, **values})
    return records


def _setting_fields(row: Row, names: Iterable[str]) -> Fields:
    """Return the settings of these names as fields; None where the method has none."""
    settings = {terminal_line(name): value for name, value in method_settings(row.run).items()}
    return {
        f"setting_{name}": (
            _plain_value(settings.get(name)),
            "this setting of the method, which differs between runs of one method; null where a method has none",
        )
        for name in names
    }


def _plain_value(value: object) -> object:
    """Return a number, truth value or None as it is, and all else as text: config.yaml is untrusted input."""
    finite = isinstance(value, float) and math.isfinite(value)
    return value if value is None or finite or isinstance(value, int) else terminal_line(str(value))
