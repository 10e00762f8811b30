"""Charts of finished runs, for a README or a paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprune.errors import UserError
from vlmprune.report.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with any colour vision; the marker tells apart in grey too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P")
BASELINES = {"random": ("x", "--"), "uniform": ("+", ":")}  # what the others have to beat: grey, in the background
BASELINE = "#8A8A8A"
INK = "#333333"
WIDTH, PANEL_HEIGHT, DPI = 6.4, 2.75, 150  # inches; 960 pixels wide


def accuracy_chart(groups: list[list[Row]], path: Path) -> None:
    """Score against reduction ratio and against FLOPs, a pair of panels per group of comparable runs.

    One line per method with its 95 % band; the unpruned model dashed and the blind baseline dotted, a star at
    their cost, where they were run. Runs that are not judged are left out. `path` ends in .png or .svg; raises
    UserError where it cannot be written.
    """
    import matplotlib

    groups = [scored for rows in groups if (scored := [row for row in rows if row.run.score is not None])]
    if not groups:
        raise UserError(f"chart={path}: no run has a score yet; vlmprune score judges them")
    style: Any = {
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "svg.fonttype": "none",
        "svg.hashsalt": "vlmprune",  # the same results give the same file
    }
    with matplotlib.rc_context(style):
        figure = _draw(groups)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(path, dpi=DPI, facecolor="white", metadata=metadata)
        except OSError as error:
            raise UserError(f"chart={path} cannot be written: {error}") from error


def _draw(groups: list[list[Row]]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # No pyplot: a figure of one's own needs no display, and leaves no global state behind.
    layout = ConstrainedLayoutEngine(w_pad=0.06, wspace=0.04)
    figure = Figure(figsize=(WIDTH, PANEL_HEIGHT * len(groups) + 0.35), layout=layout)
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(groups), 2, squeeze=False, sharey="row")
    looks = _looks(groups)
    for (left, right), rows in zip(panels, groups, strict=True):
        _group(left, right, rows, looks)
    handles, labels = _legend(panels)
    if handles:
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=min(6, len(labels)),
            frameon=False,
            handlelength=2.2,
            columnspacing=1.6,
        )
    return figure


def _looks(groups: list[list[Row]]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of every label, the same in all panels."""
    labels = sorted({row.label for rows in groups for row in rows if not row.run.unpruned and not row.run.blind})
    looks: dict[str, dict[str, Any]] = {}
    for label in labels:
        method = label.split()[0]
        if method in BASELINES:
            marker, dashes = BASELINES[method]
            looks[label] = {"color": BASELINE, "marker": marker, "linestyle": dashes}
        else:
            index = sum(look["color"] != BASELINE for look in looks.values())
            looks[label] = {
                "color": COLORS[index % 6],
                "marker": MARKERS[index % 6],
                "linestyle": ("-", "--", "-.")[index // 6 % 3],
            }
    return looks


def _group(left: Axes, right: Axes, rows: list[Row], looks: dict[str, dict[str, Any]]) -> None:
    """Both panels of one group."""
    first = rows[0].run
    curves: dict[str, list[Row]] = {}
    for row in rows:
        if not row.run.unpruned and not row.run.blind:
            curves.setdefault(row.label, []).append(row)
    for label, points in curves.items():
        points.sort(key=lambda row: row.run.reduction)
        _curve(left, label, [100 * row.run.reduction for row in points], points, looks[label])
        costs = [(row.run.flops / 1e9, row) for row in points if row.run.flops is not None]
        costs.sort(key=lambda cost: cost[0])
        _curve(right, label, [flops for flops, _ in costs], [row for _, row in costs], looks[label])
    for name, dashes, row in _references(rows):
        for axes in (left, right):
            axes.axhline(_percent(row)[0], color=INK, linewidth=1.0, linestyle=dashes, zorder=1)
        left.annotate(
            f"{name} {_percent(row)[0]:.1f}",
            (1, _percent(row)[0]),
            (-2, 3),
            ha="right",
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=7,
            zorder=5,
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6},
        )
        if row.run.flops is not None:
            right.plot(row.run.flops / 1e9, _percent(row)[0], "*", color=INK, markersize=7, zorder=4)
    for axes in (left, right):
        axes.margins(y=0.08)
        axes.grid(axis="y", color="#E6E6E6", linewidth=0.6)
        axes.set_axisbelow(True)
    ticks = sorted({round(100 * row.run.reduction, 1) for points in curves.values() for row in points})
    if len(ticks) <= 8:
        left.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    left.set_xlabel("visual tokens removed (%)")
    right.set_xlabel("GFLOPs per question")
    left.set_ylabel(f"{first.metric} (%)")
    left.set_title(f"{first.model} on {first.benchmark}, {first.samples:,} questions", loc="left")
    right.set_title("bands: 95 % interval over images", loc="right", color="#666666", fontsize=7)


def _curve(axes: Axes, label: str, x: list[float], points: list[Row], look: dict[str, Any]) -> None:
    baseline = look["color"] == BASELINE
    axes.plot(
        x,
        [_percent(row)[0] for row in points],
        label=label,
        linewidth=1.0 if baseline else 1.5,
        markersize=4,
        zorder=2 if baseline else 3,
        **look,
    )
    low, high = [_percent(row)[1] for row in points], [_percent(row)[2] for row in points]
    if len(points) == 1:  # a band has no width there
        axes.vlines(x, low, high, color=look["color"], linewidth=0.8, alpha=0.6)
    axes.fill_between(x, low, high, color=look["color"], alpha=0.10, linewidth=0)


def _percent(row: Row) -> tuple[float, float, float]:
    """Score and interval in percent; a metric without an interval gets a band of no height."""
    run = row.run
    assert run.score is not None
    low = run.score if run.low is None else run.low
    return 100 * run.score, 100 * low, 100 * (run.score if run.high is None else run.high)


def _references(rows: list[Row]) -> list[tuple[str, Any, Row]]:
    """(name, dashes, row) of the unpruned model and of what the questions alone give away, where they were run."""
    kinds = (
        ("unpruned", (0, (5, 3)), [row for row in rows if row.run.unpruned]),
        ("blind", (0, (1, 2)), [row for row in rows if row.run.blind]),
    )
    return [(name, dashes, found[0]) for name, dashes, found in kinds if found]


def _legend(panels: Any) -> tuple[list[Any], list[str]]:
    """Every label once, baselines last."""
    found: dict[str, Any] = {}
    for axes in panels[:, 0]:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    order = sorted(found, key=lambda label: (label.split()[0] in BASELINES, label))
    return [found[label] for label in order], order
