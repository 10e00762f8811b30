"""The result of `vlmprune speed` in the terminal, in other formats, and as a chart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprune.results.curves import (
    BASELINE,
    FAINT,
    GRID,
    LineStyle,
    chart_style,
    choose_line_styles,
    make_panels,
    write_figure,
)
from vlmprune.results.tables import Column, Report, Table, column_legend
from vlmprune.results.text import format_amount, format_number
from vlmprune.results.timing import DOUBTFUL, MOST_SPREAD
from vlmprune.speed.result_schema import MEASURED, NOT_APPLICABLE, part_spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Row = dict[str, Any]
MARKED = ("prefill", "first_token", "decode_per_token", "end_to_end")  # parts with a speed-up; others are too short


def removed_text(row: Row) -> str:
    """Return the requested amount: '90 %', 'keep 64', 'default' for a published schedule, '' for the unpruned model."""
    return "" if row["label"].startswith("unpruned") else format_amount(row["ratio"], row["keep"])


def _column(
    title: str, text: Callable[[Row], str], about: str = "", droppable: int = 0, has_state: bool = False
) -> Column[Row]:
    """Return a column of measured rows. has_state: of all others it has the state, else nothing."""

    def cell(row: Row) -> str:
        if row["state"] == MEASURED:
            return text(row)
        return row["state"].upper() if has_state else ""

    return Column(title, cell, about, droppable=droppable)


def _time(title: str, part: str, about: str = "", droppable: int = 0) -> Column[Row]:
    """Return a column of median times, with the speed-up over unpruned where it is known."""

    def text(row: Row) -> str:
        faster = row.get("speed_up", {}).get(part)
        mark = DOUBTFUL * (part in MARKED and part_spread(row, part) is not None)
        return format_number((row["ms"][part] or {}).get("median_ms")) + (f" ({faster:.2f}x)" if faster else "") + mark

    return _column(title, text, about, droppable)


def _known(row: Row, name: str, pattern: str) -> str:
    return pattern.format(row[name]) if name in row else "-"


KEY_COLUMNS: tuple[Column[Row], ...] = (
    Column("batch", lambda row: str(row["batch_size"] or "-")),
    Column("method", lambda row: row["label"], left=True),
    Column("removed", lambda row: "" if row["state"] == NOT_APPLICABLE else removed_text(row)),
)
TIMES = (
    *KEY_COLUMNS,
    _column(
        "tokens",
        lambda row: f"{row['tokens']['kept']}/{row['tokens']['visual']}",
        "visual tokens that reach the last decoder layer, of all",
        droppable=4,
        has_state=True,
    ),
    _time("vision", "vision", droppable=2),
    _time("selection", "selection", droppable=3),
    _time("projector", "projector", droppable=1),
    _time("prefill", "prefill", "the decoder's first pass with all selection in it"),
    _time("first token", "first_token", "everything from generate() to its logits"),
    _time("decode step", "decode_per_token", "one token for every prompt of the batch", droppable=5),
    _time("end to end", "end_to_end"),
)
COMPARED = ("speed_up", "flops_ratio", "realised")  # fields of the comparison with the unpruned model
FASTER = ("(x)", "times faster than unpruned, which ran in turn in the same process")
WORK = (
    *KEY_COLUMNS,
    _column(
        "GFLOPs",
        lambda row: format_number(row["flops"]["first_token"] / 1e9 if row["flops"] else None),
        "per question, to the first token",
        has_state=True,
    ),
    _column("fewer FLOPs", lambda row: _known(row, "flops_ratio", "{:.2f}x")),
    _column("faster", lambda row: _known(row, "speed_up", "{[first_token]:.2f}x")),
    _column(
        "realised",
        lambda row: _known(row, "realised", "{:.0%}") + DOUBTFUL * ("timing_doubt" in row and "realised" in row),
        "times faster to the first token / times fewer FLOPs",
    ),
    _column(
        "TFLOP/s",
        lambda row: format_number(row.get("flops_per_s", 0) / 1e12 or None),
        "those FLOPs over that time; of ceiling: that of this machine, in the first line",
        droppable=4,
    ),
    _column("of ceiling", lambda row: _known(row, "of_flops_ceiling", "{:.0%}"), droppable=5),
    _column(
        "decode GB/s",
        lambda row: format_number(row.get("bytes_per_s", 0) / 1e9 or None),
        "weights and KV cache that a step reads, over its time; of bandwidth: of the ceiling above",
        droppable=2,
    ),
    _column("of bandwidth", lambda row: _known(row, "of_bandwidth_ceiling", "{:.0%}"), droppable=1),
    _column("peak MB", lambda row: f"{row['peak_memory_mb']:,.0f}"),
    _column("KV MB", lambda row: format_number(row["kv_cache_bytes"] / 2**20), droppable=3),
)


def print_result(result: dict[str, Any], style: str) -> None:
    """Print the result to stdout. style: one of FORMATS."""
    rows, first_line = result["rows"], heading(result)
    tables = (("median ms", TIMES), ("work and memory", WORK))
    if style == "table":
        print()  # after the lines about the measurement
    Report(
        [Table(title, columns, _shown(rows), apart=True, caption=first_line) for title, columns in tables],
        legend=[*column_legend(TIMES), FASTER, *column_legend(WORK)],
        records=[dict(_flat(row)) for row in rows],
        data=result,
        above=[first_line],
        remarks=[*refusals(rows), *findings(rows), *doubts(rows)],
    ).print(style)


def _shown(rows: list[Row]) -> list[Row]:
    """Return the rows as printed: unpruned ones without a comparison with themselves, one for each refused case."""
    shown = [
        {name: value for name, value in row.items() if row["label"] != "unpruned" or name not in COMPARED}
        for row in rows
        if row["state"] != NOT_APPLICABLE
    ]
    return shown + [{"state": NOT_APPLICABLE, "label": label, "batch_size": None} for label, _ in _refused(rows)]


def heading(result: dict[str, Any]) -> str:
    """Return one line with the facts that all rows share: model, device, load and ceiling."""
    load, ceiling = result["load"], result["ceiling"]
    weights = "random weights" if result["model"]["random_weights"] else "its own weights"
    return (
        f"{result['model']['name']} ({weights}) · {device_text(result)} · "
        f"{load['prompt_tokens']} text tokens and an image, {load['new_tokens']} new tokens · ceiling "
        f"{format_number(ceiling['flops'] / 1e12)} TFLOP/s, {format_number(ceiling['bandwidth'] / 1e9)} GB/s"
    )


def device_text(result: dict[str, Any]) -> str:
    """Return device, dtype and attention kernel as text."""
    under = result["conditions"]
    device = under["device_name"] if under["device"].startswith("cuda") else f"CPU, {under['threads']} thread(s)"
    return f"{device} · {under['dtype']} · {under['attention']} attention"


def findings(rows: list[Row]) -> list[str]:
    """Return a line per batch size: the FLOPs ratio and the measured speed-up of the strongest pruning."""
    strongest: dict[int, Row] = {}
    for row in rows:
        most = strongest.get(row["batch_size"], {"flops_ratio": 1})
        if row.get("flops_ratio", 1) > most["flops_ratio"] and row["tokens"]["kept"]:
            strongest[row["batch_size"]] = row
    return [_finding(size, row) for size, row in strongest.items()]


def _finding(size: int, row: Row) -> str:
    case, ratio = f"{row['label']} {removed_text(row)}", row["flops_ratio"]
    fewer = f"batch {size}: {case} needs {ratio:.2f}x fewer FLOPs to the first token"
    if "timing_doubt" in row:
        return f"{fewer}; its timing is not to be trusted: {row['timing_doubt']}"
    faster = row["speed_up"]["first_token"]
    return f"{fewer} and is {faster:.2f}x faster: {row['realised']:.0%} of the theoretical speed-up is realised"


def doubts(rows: list[Row]) -> list[str]:
    """Return a line that explains the mark DOUBTFUL and says what to do; [] if no row has it."""
    measured = [row for row in rows if row["state"] == MEASURED]
    if not any("timing_doubt" in row or any(part_spread(row, part) for part in MARKED) for row in measured):
        return []
    return [
        f"{DOUBTFUL}: not to be trusted, as the p90 is over {MOST_SPREAD}x the median, or the speed-up over the "
        "theoretical one; the machine probably did other work meanwhile: measure again while it does nothing else"
    ]


def refusals(rows: list[Row]) -> list[str]:
    """Return a line for each case that the model cannot run, with the reason."""
    found = _refused(rows).items()
    return [f"NOT APPLICABLE {label} at {', '.join(amounts)}: {reason}" for (label, reason), amounts in found]


def _refused(rows: list[Row]) -> dict[tuple[str, str], list[str]]:
    """Return the requested amounts of each (label, reason) that the model cannot run."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["state"] == NOT_APPLICABLE:
            found.setdefault((row["label"], row["reason"]), []).append(removed_text(row))
    return found


def _flat(data: Row, prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in data.items():
        pairs += _flat(value, f"{prefix}{name}_") if isinstance(value, dict) else [(prefix + name, value)]
    return pairs


WIDTH, BAR_HEIGHT = 9.6, 0.19  # inches
# In the order in which they run. Selection is measured as a part of the prefill and drawn separately. No colour is a
# method's: selection, which pruning adds, is yellow among greys.
PARTS = {
    "vision": ("#4A4A4A", "vision and projector"),
    "selection": ("#F0D000", "selection"),
    "prefill": ("#848484", "decoder's first pass"),
    "decode": ("#B8B8B8", "decode"),
    "other": ("#E2E2E2", "other"),
}


def speed_chart(result: dict[str, Any], path: Path) -> None:
    """Write two panels for every batch size to `path`, a .png or .svg. Raise UserError if it cannot be written."""
    with chart_style():
        write_figure(_draw(result), path)


def _draw(result: dict[str, Any]) -> Figure:
    groups: dict[int, list[Row]] = {}
    for row in result["rows"]:
        if row["state"] == MEASURED:
            groups.setdefault(row["batch_size"], []).append(row)
    most = max((len(rows) for rows in groups.values()), default=1)
    figure, panels = make_panels(max(1, len(groups)), 2, WIDTH, max(2.6, 0.9 + BAR_HEIGHT * most), {}, share=False)
    styles = choose_line_styles(dict.fromkeys(row["label"] for rows in groups.values() for row in rows))
    for (left, right), (size, rows) in zip(panels, groups.items(), strict=False):
        _speed_ups(left, rows, styles)
        _times(right, rows)
        left.set_title(f"{result['model']['name']}, batch {size}", loc="left", fontweight="bold")
    if not groups:
        panels[0, 0].set_title("nothing could be measured", loc="left")
    figure.supxlabel(device_text(result), fontsize=7, color=FAINT)
    return figure


def _speed_ups(axes: Axes, rows: list[Row], styles: dict[str, LineStyle]) -> None:
    """Draw the speed-up to the first token: measured, and by FLOPs. styles: of every label.

    DOUBTFUL marks what is not to be trusted.
    """
    curves: dict[str, list[tuple[float, Row]]] = {}
    for row in rows:
        if "flops_ratio" in row and row["label"] != "unpruned":
            tokens = row["tokens"]
            curves.setdefault(row["label"], []).append((100 * (1 - tokens["kept"] / tokens["visual"]), row))
    for label, points in curves.items():
        points.sort(key=lambda point: point[0])
        x, look = [removed for removed, _ in points], styles[label]
        measured = [row["speed_up"]["first_token"] for _, row in points]
        axes.plot(x, measured, label=f"{label}, measured", markersize=4, **look)
        for at, row in points:
            if "timing_doubt" in row:
                where: Any = {"xytext": (3, 3), "textcoords": "offset points", "fontweight": "bold"}
                axes.annotate(DOUBTFUL, (at, row["speed_up"]["first_token"]), color=look["color"], **where)
        by_flops: LineStyle = look | {"linestyle": (0, (1, 1.5)), "alpha": 0.45}
        axes.plot(x, [row["flops_ratio"] for _, row in points], label=f"{label}, by FLOPs", markersize=4, **by_flops)
    # One tick where two methods keep nearly as many tokens, such as 290 and 288 of 2880.
    ticks = {f"{removed:.0f}": removed for points in curves.values() for removed, _ in points}
    if len(ticks) <= 8:
        axes.set_xticks(list(ticks.values()), list(ticks))
    axes.axhline(1, color=BASELINE, linewidth=0.8, zorder=1)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("visual tokens removed at the last layer (%)")
    axes.set_ylabel("times faster to the first token")
    if curves:
        axes.legend(frameon=False, fontsize=7)


def _times(axes: Axes, rows: list[Row]) -> None:
    """Draw the median time of a whole answer by part, one bar per row."""
    names = [" ".join([row["label"], removed_text(row)]).strip() for row in rows]
    left = [0.0] * len(rows)
    for part, (color, name) in PARTS.items():
        widths = [_milliseconds(row)[part] for row in rows]
        axes.barh(names, widths, left=left, color=color, label=name, height=0.72)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("ms for the whole batch, medians")
    axes.tick_params(axis="y", length=0)
    look: dict[str, Any] = {"handlelength": 1.0, "columnspacing": 1.0, "handletextpad": 0.4}
    axes.legend(frameon=False, fontsize=7, ncols=5, loc="lower left", bbox_to_anchor=(-0.02, 0.99), **look)


def _milliseconds(row: Row) -> dict[str, float]:
    """Return the medians of PARTS in ms. Decode is the end-to-end median minus all other parts."""
    ms = {part: 0.0 if value is None else value["median_ms"] for part, value in row["ms"].items()}
    shown = {
        "vision": ms["vision"] + ms["projector"],
        "selection": ms["selection"],
        "prefill": ms["prefill"] - ms["selection"],
        "other": ms["other"],
    }
    return shown | {"decode": max(0.0, ms["end_to_end"] - sum(shown.values()))}
