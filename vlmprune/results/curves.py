"""Score curves with 95 % bands, the look of every method, and the style and files of figures."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprune.errors import UserError
from vlmprune.results.comparison import Row
from vlmprune.results.runs import Run
from vlmprune.results.timing import relative_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Okabe and Ito's palette is distinguishable with any colour vision; purple and brown can be read, as it can, on white
# and on black. The markers are distinguishable in grey.
BLUE, VERMILION, GREEN, PINK, SKY, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
PURPLE, BROWN = "#8C6BB1", "#A6761D"
COLORS, MARKERS = (BLUE, VERMILION, GREEN, PINK, SKY, ORANGE, PURPLE, BROWN), "os^DvPX<>phd"
BASELINE, INK, GRID, FAINT = "#8A8A8A", "#333333", "#E6E6E6", "#666666"
# A method has the same look in every chart and page, so no entry may change. Methods to beat are grey.
LOOKS = {
    "unpruned": (INK, "*"),
    "random": (BASELINE, "x"),
    "uniform": (BASELINE, "+"),
    "cls": (BLUE, "o"),
    "fastv": (VERMILION, "s"),
    "visionzip": (GREEN, "^"),
    "divprune": (PINK, "D"),
    "sparsevlm": (SKY, "v"),
    "pyramiddrop": (ORANGE, "P"),
    "cdpruner": (PURPLE, "X"),
    "prumerge": (BROWN, "p"),
    "vispruner": (VERMILION, "<"),
    "scm": (BLUE, ">"),
    "vtc_cls": (ORANGE, "d"),
    "pool": (BROWN, "v"),
    "tome": (PINK, "p"),
    "pitome": (PURPLE, "o"),
    "compose": (SKY, "s"),
    "prumerge_plus": (BROWN, "^"),
    "sparsevlm_plus": (SKY, "X"),
}
DASHES, FILLS = ("-", "--", "-."), ("full", "none", "left")  # of labels with the same look
BASELINE_DASHES = {"random": "--", "uniform": ":"}
MOST_TICKS = 8  # up to this many ratios, each has a label

Score = tuple[float, float, float]  # a run's score and the ends of its interval, fractions of 1
LineStyle = dict[str, Any]


@dataclass(frozen=True)
class XAxis:
    """The x-axis of a chart. value: a run's value, None if unknown. noisy: the value may fall although more tokens are
    kept; points are then joined in the order of the ratio."""

    name: str
    label: str
    value: Callable[[Run], float | None]
    noisy: bool = False


RATIO = XAxis("ratio", "visual tokens removed (%)", lambda run: 100 * run.reduction)
LATENCY = XAxis(
    "latency",
    "end to end, % of unpruned in the same run",
    relative_time,
    noisy=True,
)


def make_flops_axis(groups: Sequence[Sequence[Row]]) -> XAxis:
    """Return the x-axis for FLOPs per question, in the unit that suits the largest value."""
    largest = max((row.run.flops for rows in groups for row in rows if row.run.flops is not None), default=0.0)
    unit, one = ("TFLOPs", 1e12) if largest >= 1e12 else ("GFLOPs", 1e9)
    return XAxis("flops", f"{unit} per question", lambda run: None if run.flops is None else run.flops / one)


def run_scores(rows: Sequence[Row]) -> dict[Path, Score]:
    """Return score and interval of every judged run; without an interval both ends equal the score."""
    return {
        row.run.path: (
            row.run.score,
            row.run.score if row.run.low is None else row.run.low,
            row.run.score if row.run.high is None else row.run.high,
        )
        for row in rows
        if row.run.score is not None
    }


def find_look(method: str) -> tuple[str, str]:
    """Return the colour and marker of a method, or of 'unpruned'; they depend on the name alone.

    A method of the user's own gets one that no method of LOOKS has: the one whose hash with the name is largest, so
    that a later entry of LOOKS changes only the methods that had the same look.
    """
    free = [look for look in product(COLORS, MARKERS) if look not in LOOKS.values()]
    return LOOKS.get(method) or max(free, key=lambda look: hashlib.sha256(f"{method} {look}".encode()).digest())


def choose_line_styles(labels: Iterable[str]) -> dict[str, LineStyle]:
    """Return colour, marker and line style of every label, for all panels of all charts; baselines last.

    A label begins with its method. Those of one look, such as a method with different settings, differ in their dashes
    and in the fill of the marker.
    """
    names = {label: label.partition(" ")[0] for label in labels}
    styles: dict[str, LineStyle] = {}
    used: Counter[tuple[str, str]] = Counter()
    for label in sorted(names, key=lambda label: (names[label] in BASELINE_DASHES, label)):
        color, marker = look = find_look(names[label])
        first = BASELINE_DASHES.get(names[label], DASHES[0])
        dashes = (first, *(each for each in DASHES if each != first))
        at = used[look] % len(DASHES)
        styles[label] = {"color": color, "marker": marker, "linestyle": dashes[at], "fillstyle": FILLS[at]}
        used[look] += 1
    return styles


def draw_panel(
    axes: Axes,
    rows: Sequence[Row],
    x_axis: XAxis,
    styles: Mapping[str, LineStyle],
    scores: Mapping[Path, Score],
    small: bool = False,
) -> None:
    """Draw the curves of `rows` by label. scores: those of judged runs. small: do not name the horizontal lines.

    The unpruned model is a dashed line and the blind baseline a dotted one, each with a star at its cost.
    """
    scored = [row for row in rows if row.run.path in scores]
    curves: dict[str, list[tuple[float, float, Score]]] = {}
    for row in scored:
        x = x_axis.value(row.run)
        if x is not None and not row.run.is_unpruned and not row.run.is_blind:
            place = row.run.reduction if x_axis.noisy else x
            curves.setdefault(row.label, []).append((place, x, scores[row.run.path]))
    for label, points in curves.items():
        _curve(axes, [(x, score) for _, x, score in sorted(points)], styles[label], bars=x_axis.noisy)
    for name, dashes, run in _references([row.run for row in scored]):
        height = 100 * scores[run.path][0]
        axes.axhline(height, color=INK, linewidth=1.0, linestyle=dashes, zorder=1)
        if not small:
            _name_line(axes, f"{name} {height:.1f}", height, left=x_axis is not RATIO)  # the stars are on the right
        cost = x_axis.value(run)
        if cost is not None and x_axis is not RATIO:
            axes.plot(cost, height, "*", color=INK, markersize=7, zorder=4)
    axes.margins(y=0.08)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    if x_axis is RATIO:
        _ratio_ticks(axes, sorted({round(x, 1) for points in curves.values() for _, x, _ in points}), small)


def _ratio_ticks(axes: Axes, ticks: list[float], small: bool) -> None:
    """Label every ratio that was run, except where labels would overlap."""
    if 0 < len(ticks) <= MOST_TICKS:
        apart = (ticks[-1] - ticks[0]) / (10 if small else 20)
        labels = [
            "" if following is not None and following - tick < apart else f"{tick:g}"
            for tick, following in zip(ticks, [*ticks[1:], None], strict=True)
        ]
        axes.set_xticks(ticks, labels)


def _curve(axes: Axes, points: list[tuple[float, Score]], style: LineStyle, bars: bool) -> None:
    """Draw one curve. bars: draw intervals as bars at the points instead of a band."""
    x = [at for at, _ in points]
    middle, low, high = ([100 * score[side] for _, score in points] for side in range(3))
    baseline = style["color"] == BASELINE
    width, order = (1.0, 2) if baseline else (1.5, 3)
    axes.plot(x, middle, linewidth=0.6 * width if bars else width, markersize=4, zorder=order, **style)
    if bars or len(points) == 1:  # one point has no band
        axes.vlines(x, low, high, color=style["color"], linewidth=0.8, alpha=0.6)
    else:
        axes.fill_between(x, low, high, color=style["color"], alpha=0.10, linewidth=0)


def _name_line(axes: Axes, text: str, height: float, left: bool) -> None:
    axes.annotate(
        text,
        (0 if left else 1, height),
        (2 if left else -2, 3),
        ha="left" if left else "right",
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        fontsize=7,
        zorder=5,
        bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6},
    )


def _references(runs: list[Run]) -> list[tuple[str, Any, Run]]:
    """Return (name, dashes, run) of the unpruned run and of the blind run (no visual token kept), if they exist."""
    kinds = (
        ("unpruned", (0, (5, 3)), [run for run in runs if run.is_unpruned]),
        ("blind", (0, (1, 2)), [run for run in runs if run.is_blind]),
    )
    return [(name, dashes, found[0]) for name, dashes, found in kinds if found]


DPI, LEGEND_HEIGHT, LEGEND_COLUMNS = 150, 0.35, 6  # LEGEND_HEIGHT in inches, LEGEND_COLUMNS at most
LETTERS_PER_INCH, HANDLE_LETTERS = 15, 7  # of a legend's text, and the width of a handle in letters


@contextmanager
def chart_style() -> Iterator[None]:
    """Apply matplotlib's settings for all charts inside the block."""
    import matplotlib

    style: Any = {
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "text.color": INK,
        "text.parse_math": False,  # a $ in a name is printed as it is
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "svg.fonttype": "none",
        "svg.hashsalt": "vlmprune",  # makes the file reproducible
    }
    with matplotlib.rc_context(style):
        yield


def make_panels(
    lines: int, columns: int, width: float, height: float, styles: dict[str, LineStyle], share: bool | str = "row"
) -> tuple[Figure, Any]:
    """Return a figure and its panels [lines, columns], with a legend of `styles` below. width: inches of the figure;
    height: inches of a panel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.lines import Line2D

    # Without pyplot a figure needs no display and adds no global state.
    longest = max(map(len, styles), default=0) + HANDLE_LETTERS
    legend_columns = max(1, min(LEGEND_COLUMNS, len(styles), int(width * LETTERS_PER_INCH / longest)))
    legend_lines = -(-len(styles) // legend_columns)
    size = (width, height * lines + LEGEND_HEIGHT + 0.16 * max(0, legend_lines - 1))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.06, wspace=0.04))
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, squeeze=False, sharey=share)  # type: ignore[arg-type]
    if styles:
        handles = [Line2D([], [], linewidth=1.5, markersize=4, **style) for style in styles.values()]
        figure.legend(
            handles,
            list(styles),
            loc="outside lower center",
            ncols=legend_columns,
            frameon=False,
            handlelength=2.2,
            columnspacing=1.6,
        )
    return figure, panels


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure to a .png or .svg. Raise UserError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=DPI, facecolor="white", metadata=metadata)
    except OSError as error:
        raise UserError(f"chart {path} cannot be written: {error}") from error
