"""Charts of finished runs: score against ratio, FLOPs and latency, and by category of question."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlmprune.errors import UserError
from vlmprune.results.comparison import Row
from vlmprune.results.curves import (
    FAINT,
    LATENCY,
    RATIO,
    LineStyle,
    Score,
    XAxis,
    chart_style,
    choose_line_styles,
    draw_panel,
    make_flops_axis,
    make_panels,
    run_scores,
    write_figure,
)
from vlmprune.results.question_scores import Questions
from vlmprune.results.runs import Run
from vlmprune.results.statistics import clustered_intervals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Category:
    """One category. questions: their number; scores: score and interval of every run, by directory."""

    name: str
    questions: int
    scores: dict[Path, Score]


def categories_of(runs: list[Run]) -> list[Category]:
    """Return the categories of the runs' benchmark, those with most questions first; [] for fewer than two.

    A category's score is the mean of its questions' scores, for any main metric; the interval is clustered by image.
    Runs without scores of single questions are left out.
    """
    sets: dict[tuple[tuple[str, ...], tuple[str, ...]], list[tuple[Path, Questions]]] = {}
    for run in runs:
        if run.questions is not None:
            sets.setdefault((run.questions.ids, run.questions.categories), []).append((run.path, run.questions))
    found: dict[str, tuple[int, dict[Path, Score]]] = {}
    for members in sets.values():
        first = members[0][1]
        names = np.array(first.categories)
        for name in sorted(set(first.categories) - {""}):
            at = np.flatnonzero(names == name)
            scores = np.array([questions.scores[at] for _, questions in members])
            bounds = clustered_intervals(scores, [first.images[i] for i in at])
            _, by_run = found.setdefault(name, (len(at), {}))
            for (path, _), own, (low, high) in zip(members, scores, bounds, strict=True):
                by_run[path] = float(own.mean()), float(low), float(high)
    ordered = sorted(found, key=lambda name: (-found[name][0], name))
    return [Category(name, *found[name]) for name in ordered] if len(ordered) > 1 else []


WIDTH, PANEL_HEIGHT = 6.4, 2.75  # inches; 960 pixels wide
LONGEST_TITLE = 40  # characters in one line above half of the width
SMALL_HEIGHT, SMALL_COLUMNS, MOST_CATEGORIES = 1.5, 4, 12  # of the panels by category
SMALL_FRAME = 0.7  # inches of title and x-axis, which the rows of these panels share
BANDS, BARS = "bands: 95 % interval over images", "bars: 95 % interval over images; joined by ratio"

Groups = Sequence[Sequence[Row]]


def draw_overview(groups: Groups, path: Path) -> None:
    """Write score against ratio and against FLOPs to `path`, a pair of panels per group of comparable runs.

    Runs that are not judged are left out. `path` ends in .png or .svg. Raise UserError if it cannot be written.
    """
    groups = _scored(groups, f"chart={path}")
    with chart_style():
        write_figure(_overview(groups), path)


def draw_charts(groups: Groups, folder: Path) -> list[Path]:
    """Write all charts to `folder`, each as .png and .svg, and return the files: ratio, flops and latency with a panel
    per group, and one file of categories for each group that has several."""
    groups = _scored(groups, f"charts={folder}")
    files = []
    with chart_style():
        for name, figure in _figures(groups):
            for ending in (".png", ".svg"):
                files.append(folder / f"{name}{ending}")
                write_figure(figure, files[-1])
    return files


def chart_svgs(groups: Groups) -> list[tuple[str, str]]:
    """Return the same charts as (name, SVG text); [] if no run is judged."""
    scored = [judged for rows in groups if (judged := _judged(rows))]
    if not scored:
        return []
    charts = []
    with chart_style():
        for name, figure in _figures(scored):
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None})
            charts.append((name, buffer.getvalue()))
    return charts


def _figures(groups: Groups) -> Iterator[tuple[str, Figure]]:
    styles = _line_styles(groups)
    for x_axis in (RATIO, make_flops_axis(groups), LATENCY):
        if any(x_axis.value(row.run) is not None for rows in groups for row in rows if not row.run.is_unpruned):
            yield x_axis.name, _axis_figure(groups, x_axis, styles)
    for number, rows in enumerate(groups, 1):
        categories = categories_of([row.run for row in rows])
        if categories:
            yield f"categories-{number}" if len(groups) > 1 else "categories", _by_category(rows, categories, styles)


def _overview(groups: Groups) -> Figure:
    figure, panels = make_panels(len(groups), 2, WIDTH, PANEL_HEIGHT, styles := _line_styles(groups))
    flops = make_flops_axis(groups)
    for (left, right), rows in zip(panels, groups, strict=True):
        scores = run_scores(rows)
        draw_panel(left, rows, RATIO, styles, scores)
        draw_panel(right, rows, flops, styles, scores, small=True)
        left.set_xlabel(RATIO.label)
        right.set_xlabel(flops.label)
        _title(left, rows)
        right.set_title(BANDS, loc="right", color=FAINT, fontsize=7)
    return figure


def _axis_figure(groups: Groups, x_axis: XAxis, styles: dict[str, LineStyle]) -> Figure:
    columns = min(2, len(groups))
    figure, panels = make_panels(-(-len(groups) // columns), columns, WIDTH, 1.2 * PANEL_HEIGHT, styles, share=False)
    for axes, rows in zip(panels.flat, groups, strict=False):
        draw_panel(axes, rows, x_axis, styles, run_scores(rows))
        axes.set_xlabel(x_axis.label)
        _title(axes, rows)
    for axes in panels.flat[len(groups) :]:
        axes.set_axis_off()
    if columns == 1:
        note = BARS if x_axis.noisy else BANDS
        panels.flat[0].set_title(note, loc="right", color=FAINT, fontsize=7)
    return figure


def _by_category(rows: Sequence[Row], categories: list[Category], styles: dict[str, LineStyle]) -> Figure:
    """Draw a small panel against the ratio for each category; at most MOST_CATEGORIES, those with most questions."""
    shown = categories[:MOST_CATEGORIES]
    columns = min(SMALL_COLUMNS, len(shown))
    lines = -(-len(shown) // columns)
    figure, panels = make_panels(lines, columns, 1.3 * WIDTH, SMALL_HEIGHT + SMALL_FRAME / lines, styles, share=True)
    for number, (axes, category) in enumerate(zip(panels.flat, shown, strict=False)):
        draw_panel(axes, rows, RATIO, styles, category.scores, small=True)
        axes.set_title(f"{category.name} ({category.questions:,})", loc="left")
        lowest = number + columns >= len(shown)
        axes.tick_params(labelbottom=lowest)
        axes.set_xlabel("removed (%)" if lowest else "")
    for axes in panels.flat[len(shown) :]:
        axes.set_axis_off()
    first = rows[0].run
    figure.supylabel("mean score of a question (%)", fontsize=8)
    cut = f", the {len(shown)} of {len(categories)} with most questions" if len(shown) < len(categories) else ""
    figure.suptitle(
        f"{first.model} on {first.benchmark} by kind of question (how many){cut}; dashed: unpruned; {BANDS}",
        fontsize=8,
        x=0.01,
        ha="left",
    )
    return figure


def _title(axes: Axes, rows: Sequence[Row]) -> None:
    first = rows[0].run
    axes.set_ylabel(f"{first.metric} (%)")
    name, size = f"{first.model} on {first.benchmark}", f"{first.samples:,} questions"
    axes.set_title(f"{name}, {size}" if len(name) + len(size) <= LONGEST_TITLE else f"{name}\n{size}", loc="left")


def _line_styles(groups: Groups) -> dict[str, LineStyle]:
    """Return the line style of every label that has a curve; unpruned and blind runs have none."""
    return choose_line_styles(
        row.label for rows in groups for row in rows if not row.run.is_unpruned and not row.run.is_blind
    )


def _judged(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.run.score is not None]


def _scored(groups: Groups, asked: str) -> list[list[Row]]:
    """Return the groups without the runs that have no score. Raise UserError if no run is left."""
    scored = [judged for rows in groups if (judged := _judged(rows))]
    if not scored:
        raise UserError(f"{asked}: no run has a score yet; vlmprune score judges them")
    return scored
