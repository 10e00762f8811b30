"""The columns of the comparison's text tables: title, meaning, a row's cell and its sort value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlmprune.report.comparisons import Compared
    from vlmprune.report.rows import Row
    from vlmprune.report.runs import Run


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
DISPENSABLE = (
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
            lambda row: "-" if row.relative is None else f"{100 * row.relative:.1f} %{BEYOND * row.flattered}",
            lambda row: row.relative,
        ),
        Column(
            "vs_unpruned",
            "vs unpruned (p)",
            f"points above the unpruned run on the same questions; {TEST}",
            lambda row: compared_text(row.versus_unpruned),
            lambda row: None if row.versus_unpruned is None else row.versus_unpruned.difference.mean,
        ),
        Column(
            "vs_random",
            "vs random (p)",
            f"points above random pruning at equal layer-averaged tokens, '-' where there is none; {TEST}",
            lambda row: compared_text(row.versus_random),
            lambda row: None if row.versus_random is None else row.versus_random.difference.mean,
        ),
        Column(
            "flops",
            unit,
            "a question, vision to last answer token; 2 per multiply-add",
            lambda row: number(None if row.run.flops is None else row.run.flops / one),
            lambda row: row.run.flops,
        ),
        Column(
            "prefill",
            "prefill ms",
            "median at batch 1, with all of the selection; speed-up over unpruned in the same run",
            _prefill,
            lambda row: row.run.pruned_ms.get("prefill"),
        ),
        _timed("decode", "decode ms", "median of one token", "decode_per_token"),
        _timed("end_to_end", "end to end ms", "median of a whole answer", "end_to_end"),
        Column(
            "kv_cache",
            "KV MB",
            "keys and values of one prompt",
            lambda row: number(None if row.run.kv_cache_bytes is None else row.run.kv_cache_bytes / 1e6),
            lambda row: row.run.kv_cache_bytes,
        ),
        Column(
            "peak_memory",
            "peak MB",
            "memory at the evaluation's batch size: the GPU's, or on a CPU the process's",
            lambda row: number(row.run.peak_memory_mb),
            lambda row: row.run.peak_memory_mb,
        ),
    ]
    wanted = list(keys)
    return [column for key in wanted for column in every if column.key == key]


def legend(columns: Iterable[Column]) -> list[tuple[str, str]]:
    """Return (title, meaning) of every column whose title needs an explanation."""
    return [(column.title or "*", column.about) for column in columns if column.about]


def score_text(run: Run) -> str:
    """Return the score in percent with its interval, or 'not judged'."""
    if run.score is None:
        return "not judged"
    if run.low is None or run.high is None:
        return f"{100 * run.score:.1f}"
    return f"{100 * run.score:.1f} [{100 * run.low:.1f}, {100 * run.high:.1f}]"


def compared_text(compared: Compared | None) -> str:
    """Return the difference in points with the corrected p value; '-' for None."""
    if compared is None:
        return "-"
    return f"{100 * compared.difference.mean:+.1f} ({'<0.001' if compared.p < 0.001 else f'{compared.p:.3f}'})"


def number(value: float | None) -> str:
    """Return a value with about three significant digits, '-' for None."""
    if value is None:
        return "-"
    decimals = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{decimals}f}"


def _timed(key: str, title: str, about: str, part: str) -> Column:
    return Column(
        key,
        title,
        about,
        lambda row: number(row.run.pruned_ms.get(part)),
        lambda row: row.run.pruned_ms.get(part),
    )


def _prefill(row: Row) -> str:
    speed_up = "" if row.speed_up is None else f" ({row.speed_up:.2f}x)"
    return number(row.run.pruned_ms.get("prefill")) + speed_up


def _reduction(row: Row) -> float:
    return 0.0 if row.run.unpruned else row.run.reduction
