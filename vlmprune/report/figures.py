"""Figures with panels and a legend in the project's style, and their files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprune.errors import UserError
from vlmprune.report.curves import INK, Look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    lines: int, columns: int, width: float, height: float, looks: dict[str, Look], share: bool | str = "row"
) -> tuple[Figure, Any]:
    """Return a figure and its panels [lines, columns], with a legend of `looks` below. width: inches of the figure;
    height: inches of a panel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.lines import Line2D

    # Without pyplot a figure needs no display and adds no global state.
    longest = max(map(len, looks), default=0) + HANDLE_LETTERS
    legend_columns = max(1, min(LEGEND_COLUMNS, len(looks), int(width * LETTERS_PER_INCH / longest)))
    legend_lines = -(-len(looks) // legend_columns)
    size = (width, height * lines + LEGEND_HEIGHT + 0.16 * max(0, legend_lines - 1))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.06, wspace=0.04))
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, squeeze=False, sharey=share)  # type: ignore[arg-type]
    if looks:
        handles = [Line2D([], [], linewidth=1.5, markersize=4, **look) for look in looks.values()]
        figure.legend(
            handles,
            list(looks),
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
