"""The result of `vlmprune speed` in the terminal, as Markdown, CSV, JSON or chart."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprune.files import to_json
from vlmprune.results.columns import format_number
from vlmprune.results.curves import BASELINE, COLORS, GRID, MARKERS, chart_style, make_panels, write_figure
from vlmprune.results.grid import Grid, dropped_columns_line, markdown_text
from vlmprune.results.tables import align_pairs
from vlmprune.speed.result_schema import MEASURED, NOT_APPLICABLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Row = dict[str, Any]

KEY_COLUMNS = ("batch", "method", "removed")
TIMES = (
    *KEY_COLUMNS,
    "tokens",
    "vision",
    "selection",
    "projector",
    "prefill",
    "first token",
    "decode step",
    "end to end",
)
WORK = (
    *(*KEY_COLUMNS, "GFLOPs", "fewer FLOPs", "faster", "realised", "TFLOP/s", "of ceiling"),
    *("decode GB/s", "of bandwidth", "peak MB", "KV MB"),
)
# Columns of both tables, dropped in this order if the terminal is too narrow.
DROPPABLE = (
    *("projector", "vision", "selection", "tokens", "decode step"),
    *("of bandwidth", "decode GB/s", "KV MB", "TFLOP/s", "of ceiling"),
)
LEGEND = (
    ("tokens", "visual tokens that reach the last decoder layer, of all"),
    ("prefill", "the decoder's first pass with all selection in it"),
    ("first token", "everything from generate() to its logits"),
    ("decode step", "one token for every prompt of the batch"),
    ("(x)", "times faster than unpruned, which ran in turn in the same process"),
    ("GFLOPs", "per question, to the first token"),
    ("realised", "times faster to the first token / times fewer FLOPs"),
    ("TFLOP/s", "those FLOPs over that time; of ceiling: that of this machine, in the first line"),
    ("decode GB/s", "weights and KV cache that a step reads, over its time; of bandwidth: of the ceiling above"),
)


def print_result(result: dict[str, Any], style: str) -> None:
    """Print the result to stdout. style: table, markdown, csv or json."""
    if style == "json":
        print(to_json(result), end="")
    elif style == "csv":
        _csv(result["rows"])
    elif style == "markdown":
        print(f"{heading(result)}\n")
        for title, columns, rows in _tables(result["rows"]):
            print(f"{_grid(title, columns, rows).markdown()}\n")
        about = " · ".join(": ".join(pair) for pair in LEGEND)
        print("\n\n".join(map(markdown_text, [*refusals(result["rows"]), *findings(result["rows"]), about])))
    else:
        _terminal(result)


def heading(result: dict[str, Any]) -> str:
    """Return one line with the facts that all rows share: model, device, load and ceiling."""
    load, ceiling = result["load"], result["ceiling"]
    weights = "random weights" if result["model"]["random_weights"] else "its own weights"
    return (
        f"{result['model']['name']} ({weights}) · {device_text(result)} · "
        f"{load['prompt_tokens']} text tokens and an image, {load['new_tokens']} new tokens · ceiling "
        f"{number_cell(ceiling['flops'] / 1e12)} TFLOP/s, {number_cell(ceiling['bandwidth'] / 1e9)} GB/s"
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
    return [
        f"batch {size}: {row['label']} {amount_text(row)} needs {row['flops_ratio']:.2f}x fewer FLOPs to the first "
        f"token and is {row['speed_up']['first_token']:.2f}x faster: {row['realised']:.0%} of the theoretical speed-up "
        "is realised"
        for size, row in strongest.items()
    ]


def refusals(rows: list[Row]) -> list[str]:
    """Return a line for each case that the model cannot run, with the reason."""
    found = _refused(rows).items()
    return [f"NOT APPLICABLE {label} at {', '.join(amounts)}: {reason}" for (label, reason), amounts in found]


def amount_text(row: Row) -> str:
    """Return '90 %', 'keep 64', 'default' for a published schedule, or '' for the unpruned model."""
    if row["keep"] is not None:
        return f"keep {row['keep']}"
    if row["ratio"] is not None:
        return f"{100 * row['ratio']:g} %"
    return "" if row["label"].startswith("unpruned") else "default"


def number_cell(value: float | None) -> str:
    """Return a value with about three significant digits, '-' for None, and '0' for 0."""
    return "0" if value == 0 else format_number(value)


def times_cells(row: Row) -> list[str]:
    """Return the cells of a row of TIMES after KEY_COLUMNS."""
    ms, tokens = {part: (value or {}).get("median_ms") for part, value in row["ms"].items()}, row["tokens"]
    faster = {part: "" if row["label"] == "unpruned" else f" ({x:.2f}x)" for part, x in row.get("speed_up", {}).items()}
    parts = (number_cell(ms[part]) for part in ("vision", "selection", "projector"))
    rest = (
        number_cell(ms[part]) + faster.get(part, "")
        for part in ("prefill", "first_token", "decode_per_token", "end_to_end")
    )
    return [f"{tokens['kept']}/{tokens['visual']}", *parts, *rest]


def work_cells(row: Row) -> list[str]:
    """Return the cells of a row of WORK after KEY_COLUMNS."""
    fewer, faster = row.get("flops_ratio"), row.get("speed_up", {}).get("first_token")
    against = row["label"] != "unpruned"
    return [
        number_cell(row["flops"]["first_token"] / 1e9 if row["flops"] else None),
        f"{fewer:.2f}x" if fewer and against else "-",
        f"{faster:.2f}x" if faster and against else "-",
        f"{row['realised']:.0%}" if fewer and against else "-",
        number_cell(row.get("flops_per_s", 0) / 1e12 or None),
        f"{row['of_flops_ceiling']:.0%}" if "of_flops_ceiling" in row else "-",
        number_cell(row.get("bytes_per_s", 0) / 1e9 or None),
        f"{row['of_bandwidth_ceiling']:.0%}" if "of_bandwidth_ceiling" in row else "-",
        f"{row['peak_memory_mb']:,.0f}",
        number_cell(row["kv_cache_bytes"] / 2**20),
    ]


def _tables(rows: list[Row]) -> list[tuple[str, tuple[str, ...], list[list[str]]]]:
    """Return (title, columns, cells) of both tables. An unmeasured row has its state in the first free cell."""
    tables: list[tuple[str, tuple[str, ...], list[list[str]]]] = []
    for title, columns, cells in (("median ms", TIMES, times_cells), ("work and memory", WORK, work_cells)):
        body = []
        for row in rows:
            if row["state"] != NOT_APPLICABLE:
                shown = cells(row) if row["state"] == MEASURED else [row["state"].upper()]
                body.append([str(row["batch_size"]), row["label"], amount_text(row), *shown])
        body += [["-", label, "", NOT_APPLICABLE.upper()] for label, _ in _refused(rows)]
        tables.append((title, columns, [[*cells, *[""] * (len(columns) - len(cells))] for cells in body]))
    return tables


def _refused(rows: list[Row]) -> dict[tuple[str, str], list[str]]:
    """Return the requested amounts of each (label, reason) that the model cannot run."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["state"] == NOT_APPLICABLE:
            found.setdefault((row["label"], row["reason"]), []).append(amount_text(row))
    return found


def _terminal(result: dict[str, Any]) -> None:
    print(f"\n{heading(result)}")
    gone: list[str] = []
    for title, columns, rows in _tables(result["rows"]):
        apart: list[list[str]] = []  # an empty row between two batch sizes
        for before, row in zip([rows[0], *rows], rows, strict=False):
            apart += [row] if before[0] == row[0] else [[""] * len(row), row]
        gone += _grid(title, columns, apart).print_terminal()
    print()
    for line in [*refusals(result["rows"]), *findings(result["rows"])]:
        print(line)
    print("\n" + align_pairs([(name, about) for name, about in LEGEND if name not in gone]))
    if gone:
        print(dropped_columns_line(gone))


def _grid(title: str, columns: tuple[str, ...], rows: list[list[str]]) -> Grid:
    return Grid(title, list(columns), rows, left={"method"}, droppable=list(DROPPABLE), wrapped={"method"})


def _csv(rows: list[Row]) -> None:
    """Print one line per row; nested values become part_name columns."""
    flat = [dict(_flat(row)) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)


def _flat(data: Row, prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in data.items():
        pairs += _flat(value, f"{prefix}{name}_") if isinstance(value, dict) else [(prefix + name, value)]
    return pairs


WIDTH, BAR_HEIGHT = 9.6, 0.19  # inches
# In the order in which they run. Selection is measured as a part of the prefill and drawn separately.
PARTS = {
    "vision": ("#0072B2", "vision and projector"),
    "selection": ("#D55E00", "selection"),
    "prefill": ("#56B4E9", "decoder's first pass"),
    "decode": ("#E3C878", "decode"),
    "other": ("#C9C9C9", "other"),
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
    for (left, right), (size, rows) in zip(panels, groups.items(), strict=False):
        _speed_ups(left, rows)
        _times(right, rows)
        left.set_title(f"{result['model']['name']}, batch {size}", loc="left", fontweight="bold")
    if not groups:
        panels[0, 0].set_title("nothing could be measured", loc="left")
    figure.supxlabel(device_text(result), fontsize=7, color="#666666")
    return figure


def _speed_ups(axes: Axes, rows: list[Row]) -> None:
    """Draw the speed-up to the first token: measured, and by FLOPs."""
    curves: dict[str, list[tuple[float, Row]]] = {}
    for row in rows:
        if "flops_ratio" in row and row["label"] != "unpruned":
            tokens = row["tokens"]
            curves.setdefault(row["label"], []).append((100 * (1 - tokens["kept"] / tokens["visual"]), row))
    for index, (label, points) in enumerate(curves.items()):
        points.sort(key=lambda point: point[0])
        x, color = [removed for removed, _ in points], COLORS[index % len(COLORS)]
        look: dict[str, Any] = {"color": color, "marker": MARKERS[index % len(MARKERS)], "markersize": 4}
        axes.plot(x, [row["speed_up"]["first_token"] for _, row in points], label=f"{label}, measured", **look)
        axes.plot(
            x,
            [row["flops_ratio"] for _, row in points],
            label=f"{label}, by FLOPs",
            linestyle=(0, (4, 2)),
            linewidth=1.0,
            markerfacecolor="white",
            **look,
        )
    ticks = sorted({removed for points in curves.values() for removed, _ in points})
    if len(ticks) <= 8:
        axes.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
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
    names = [" ".join([row["label"], amount_text(row)]).strip() for row in rows]
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
