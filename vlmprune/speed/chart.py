"""The chart of `vlmprune speed`: speed-up by FLOPs and by measured time, and the time of each part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprune.report.curves import BASELINE, COLORS, GRID, MARKERS
from vlmprune.report.figures import chart_style, make_panels, write_figure
from vlmprune.speed.result_schema import MEASURED
from vlmprune.speed.tables import amount, where

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]

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
    figure.supxlabel(where(result), fontsize=7, color="#666666")
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
    names = [" ".join([row["label"], amount(row)]).strip() for row in rows]
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
