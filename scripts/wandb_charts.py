"""Draw runs from W&B's own files alone: python -m scripts.wandb_charts OUTPUTS FILE.png

Reads the .wandb file of every finished run below OUTPUTS, and draws what a W&B workspace has to show of them: score
against ratio, from the run summaries, and the running score of the runs with most removed, from the histories. For the
picture in docs/wandb.md:

    vlmprune sweep method=none,cls,fastv ratio=0.5,0.75,0.9 limit=800 batch_size=1 share_prefix=false \\
        latency_samples=0 baselines=false outputs=outputs/wandb
    python -m scripts.wandb_charts outputs/wandb docs/wandb.png
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.loggers.wandb_reader import OfflineRun, read_offline_run
from vlmprune.results.curves import (
    FAINT,
    GRID,
    INK,
    LineStyle,
    chart_style,
    choose_line_styles,
    make_panels,
    write_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNPRUNED = "none"
WIDTH, HEIGHT = 6.4, 2.75  # inches


@dataclass(frozen=True)
class Curve:
    """Points of one label: x, score, and the ends of its 95 % interval, all in percent but for questions on the x."""

    label: str
    points: list[tuple[float, float, float, float]]

    def draw(self, axes: Axes, style: LineStyle) -> None:
        """Draw the points with a line through them, and the interval as a band."""
        x, middle, low, high = zip(*sorted(self.points), strict=True)
        axes.plot(x, middle, linewidth=1.5, markersize=4, **style)
        axes.fill_between(x, low, high, color=style["color"], alpha=0.10, linewidth=0)


def read_runs(outputs: Path) -> list[OfflineRun]:
    """Return the finished runs below `outputs`, the latest of each run id. Exit with a line if there is none."""
    runs = [read_offline_run(file) for file in sorted(outputs.rglob("offline-run-*/*.wandb"))]
    latest = {run.run_id: run for run in runs if run.exit_code == 0 and "score" in run.summary}
    if not latest:
        sys.exit(f"{outputs} has no finished run with W&B's files")
    return list(latest.values())


def method_of(run: OfflineRun) -> str:
    """Return the method's name, as it stands in the config."""
    return run.config["method"]["name"]


def percent(row: dict[str, Any], name: str) -> tuple[float, float, float]:
    """Return a score of a summary or a line of the history, and the ends of its interval, in percent."""
    return 100 * row[name], 100 * row[f"{name}_low"], 100 * row[f"{name}_high"]


def ratio_curves(runs: list[OfflineRun]) -> list[Curve]:
    """Return score against ratio, a curve a method."""
    pruned = [run for run in runs if method_of(run) != UNPRUNED]
    return [
        Curve(
            method,
            [
                (100 * run.summary["ratio"], *percent(run.summary, "score"))
                for run in pruned
                if method_of(run) == method
            ],
        )
        for method in sorted({method_of(run) for run in pruned})
    ]


def largest_ratio(runs: list[OfflineRun]) -> float:
    """Return the largest ratio of the runs; 0 if none is pruned."""
    return max((run.summary["ratio"] for run in runs if method_of(run) != UNPRUNED), default=0.0)


def running_curves(runs: list[OfflineRun]) -> list[Curve]:
    """Return the running score over the questions answered, of the unpruned run and of the largest ratio."""
    most = largest_ratio(runs)
    shown = [run for run in runs if method_of(run) == UNPRUNED or run.summary["ratio"] == most]
    curves = []
    for run in shown:
        rows = [row for row in run.history if "running/score" in row]
        points = [(row["running/questions"], *percent(row, "running/score")) for row in rows]
        curves.append(Curve("unpruned" if method_of(run) == UNPRUNED else method_of(run), points))
    return curves


def draw(runs: list[OfflineRun], file: Path) -> None:
    """Write both charts, side by side, to `file`."""
    by_ratio, running = ratio_curves(runs), running_curves(runs)
    styles = choose_line_styles(curve.label for curve in [*by_ratio, *running])
    with chart_style():
        figure, panels = make_panels(1, 2, WIDTH, HEIGHT, styles)
        left, right = panels[0]
        for axes, curves in ((left, by_ratio), (right, running)):
            for curve in curves:
                curve.draw(axes, styles[curve.label])
            axes.grid(axis="y", color=GRID, linewidth=0.6)
        for run in runs:
            if method_of(run) == UNPRUNED:
                left.axhline(100 * run.summary["score"], color=INK, linewidth=1.0, linestyle=(0, (5, 3)), zorder=1)
        config = runs[0].config
        left.set_title(f"{config['model']['name']} on {config['benchmark']['name']}: score (%)", loc="left")
        left.set_xlabel("ratio (%)")
        right.set_title("bands: 95 % interval", loc="right", color=FAINT, fontsize=7)
        right.set_title(f"running/score (%), ratio {100 * largest_ratio(runs):g} %", loc="left")
        right.set_xlabel("running/questions")
        write_figure(figure, file)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    draw(read_runs(Path(sys.argv[1])), Path(sys.argv[2]))
